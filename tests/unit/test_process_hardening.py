"""A hardened process leaves no core, and its memory is its own."""

from __future__ import annotations

import subprocess
import sys

_CHECK = """
import ctypes, resource
from appliance.process_hardening import keep_memory_private

keep_memory_private()
print(resource.getrlimit(resource.RLIMIT_CORE)[0], ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
"""


def test_no_core_and_not_dumpable() -> None:
    said = subprocess.run([sys.executable, "-c", _CHECK], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["0", "0"]
