"""llama-server as a subprocess, on the very libllama that the appliance loads."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

from appliance.types import ModelSpec
from bench.lean_client import LlamaServerClient
from bench.server import peak_mib, stop

KvMode = Literal["unified", "split"]

_START_SECONDS_MAX: Final = 120.0
_KV: Final[dict[KvMode, str]] = {"unified": "--kv-unified", "split": "--no-kv-unified"}


class LlamaServer:
    """Ready for requests on a loopback port."""

    def __init__(self, pid: int, port: int) -> None:
        self._pid = pid
        self.port = port

    async def connect(self) -> LlamaServerClient:
        """A client that connects for each request."""
        return LlamaServerClient(self.port)

    def peak_mib(self) -> dict[str, float]:
        """Its one process."""
        return {"server": peak_mib(self._pid)}


@contextmanager
def running_llama_server(binary: Path, spec: ModelSpec, kv: KvMode) -> Iterator[LlamaServer]:
    """llama-server with the sizes and threads of `spec`, which must name its threads, and defaults for the rest.

    Raises RuntimeError with the end of its log where it does not start, or took another libllama.
    """
    libraries, port = _llama_libraries(), _free_port()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [str(binary), *_arguments(spec, kv), "--host", "127.0.0.1", "--port", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "LD_LIBRARY_PATH": f"{libraries}:{os.environ.get('LD_LIBRARY_PATH', '')}".rstrip(":")},
        )
        try:
            if not _wait_until_healthy(process, port):
                log.seek(max(0, log.tell() - 2000))
                raise RuntimeError(f"llama-server does not start:\n{log.read().decode(errors='replace')}")
            if str(libraries / "libllama.so") not in Path(f"/proc/{process.pid}/maps").read_text():
                raise RuntimeError("llama-server did not take the installed libllama")
            yield LlamaServer(process.pid, port)
        finally:
            stop(process)


def _arguments(spec: ModelSpec, kv: KvMode) -> list[str]:
    return [
        *("--model", spec.path, "--ctx-size", str(spec.n_ctx), "--parallel", str(spec.parallel), _KV[kv]),
        *("--batch-size", str(spec.n_batch), "--ubatch-size", str(spec.n_ubatch)),
        *("--threads", str(spec.threads), "--threads-batch", str(spec.threads_batch)),
        *("--n-gpu-layers", "all"),
    ]


def _wait_until_healthy(process: subprocess.Popen[bytes], port: int) -> bool:
    deadline = time.monotonic() + _START_SECONDS_MAX
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return True
        except (urllib.error.URLError, OSError):  # not listening yet, or 503 while it loads
            time.sleep(0.1)
    return False


def _llama_libraries() -> Path:
    found = importlib.util.find_spec("llama_cpp")
    assert found is not None, "runtime.lock installs it"
    assert found.origin is not None, "it is a package"
    return Path(found.origin).resolve().parent / "lib"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
