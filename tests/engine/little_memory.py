"""The real worker under a real limit: `--beyond N` lets it have N MiB of address space beyond its imports."""

from __future__ import annotations

import re
import resource
import socket
import sys
from pathlib import Path

from appliance.engine.runner import load
from appliance.worker.__main__ import prepare_process
from appliance.worker.serve import serve


def argument(name: str) -> int:
    return int(sys.argv[sys.argv.index(name) + 1])


if __name__ == "__main__":
    prepare_process()
    size = re.search(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text())
    assert size is not None
    most = int(size[1]) * 1024 + argument("--beyond") * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    serve(socket.socket(fileno=argument("--fd")), load)
