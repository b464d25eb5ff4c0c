"""The nginx of a Dify sidecar as a subprocess, and a relay that counts what it connects to."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance.security.bundle_folder import write_bundle
from appliance.security.dify_bundle import CONTAINER_FOLDER, SIDECAR_PORT, DifyModel, Endpoint, dify_files

NGINX = shutil.which("nginx") or ("/usr/sbin/nginx" if Path("/usr/sbin/nginx").exists() else None)
needs_nginx = pytest.mark.skipif(NGINX is None, reason="no nginx on this machine; `apt-get install nginx-light`")
MODELS = (DifyModel("demo", 8192, 4096),)
START_SECONDS_MAX = 10.0


@dataclass
class Sidecar:
    """A running nginx with the generated configuration. url: what Dify types, without `/v1`."""

    url: str
    folder: Path

    @property
    def errors(self) -> str:
        """nginx's error log so far."""
        return (self.folder / "stderr").read_text()

    @property
    def accesses(self) -> str:
        """nginx's access log so far."""
        return (self.folder / "stdout").read_text()


def prepare(folder: Path, bundle: Path, endpoint: Endpoint, listen: str = "8080") -> Path:
    """Copies `bundle` to `folder` as an operator would, adds the generated files, and returns nginx.conf.

    Its paths and port are those of its container; here there is none.
    """
    (folder / "scratch").mkdir(parents=True)
    for name in ("client.crt", "client.key", "ca.crt"):
        shutil.copy(bundle / name, folder / name)
    files = dict(dify_files("demo", endpoint, MODELS, sidecar=True))
    # /tmp first: the test's folder may be in it.
    moved = {
        " /tmp/": f" {folder}/scratch/",
        f" {CONTAINER_FOLDER}/": f" {folder}/",
        f"listen {SIDECAR_PORT};": f"listen {listen};",
    }
    conf = files["nginx.conf"].decode()
    for there, here in moved.items():
        assert there in conf
        conf = conf.replace(there, here)
    write_bundle(folder, {**files, "nginx.conf": conf.encode()})
    return folder / "nginx.conf"


def check(conf: Path) -> subprocess.CompletedProcess[str]:
    """`nginx -t`."""
    assert NGINX is not None
    return subprocess.run([NGINX, "-t", "-c", str(conf)], capture_output=True, text=True, timeout=20, check=False)


@contextmanager
def running_sidecar(folder: Path, bundle: Path, endpoint: Endpoint) -> Iterator[Sidecar]:
    """The sidecar on a free port, in front of `endpoint`."""
    assert NGINX is not None
    port = free_port()
    conf = prepare(folder, bundle, endpoint, f"127.0.0.1:{port}")
    with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
        process = subprocess.Popen(
            [NGINX, "-c", str(conf), "-g", "daemon off;"], stdin=subprocess.DEVNULL, stdout=out, stderr=err
        )
    sidecar = Sidecar(f"http://127.0.0.1:{port}", folder)
    try:
        _wait_for(port, process, sidecar)
        yield sidecar
    finally:
        process.terminate()
        process.wait(10)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _wait_for(port: int, process: subprocess.Popen[bytes], sidecar: Sidecar) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while True:
        assert process.poll() is None, sidecar.errors
        assert time.monotonic() < deadline, sidecar.errors
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.02)


class Relay:
    """Passes bytes on to `target` and counts the connections it was asked for."""

    def __init__(self, target: int) -> None:
        self.connections = 0
        self._ended: list[asyncio.Event] = []
        self._target = target

    @classmethod
    @asynccontextmanager
    async def to(cls, target: int) -> AsyncIterator[tuple[Relay, int]]:
        """The relay and its own port. Who uses it must have gone when the block ends."""
        relay = cls(target)
        server = await asyncio.start_server(relay._serve, "127.0.0.1", 0)
        async with server:
            yield relay, server.sockets[0].getsockname()[1]
        async with asyncio.timeout(5):
            for ended in relay._ended:
                await ended.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        ended = asyncio.Event()
        self._ended.append(ended)
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        async with asyncio.TaskGroup() as group:
            group.create_task(_pump(reader, far_writer))
            group.create_task(_pump(far_reader, writer))
        ended.set()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
