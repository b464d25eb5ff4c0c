"""The nginx of a Dify sidecar as a subprocess, and a relay that counts what it connects to."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

from appliance.security.bundle_folder import write_bundle
from appliance.security.dify_bundle import CONTAINER_FOLDER, SIDECAR_PORT, DifyModel, Endpoint, dify_files
from tests.ports import free_port
from tests.security.nginx import Nginx, running_nginx

MODELS = (DifyModel("demo", 8192, 4096),)
NONE: Final[Mapping[str, str]] = {}
# What makes a proxy of it that keeps a stream's pieces together.
GATHERING: Final = {
    "proxy_buffering off;": "proxy_buffering on; proxy_ignore_headers X-Accel-Buffering; gzip on; gzip_types *;",
}


def prepare(
    folder: Path, bundle: Path, endpoint: Endpoint, listen: str = "8080", changes: Mapping[str, str] = NONE
) -> Path:
    """Copies `bundle` to `folder` as an operator would, adds the generated files, and returns nginx.conf.

    Its paths and port are those of its container; here there is none. changes: what else is replaced in it.
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
        **changes,
    }
    conf = files["nginx.conf"].decode()
    for there, here in moved.items():
        assert there in conf
        conf = conf.replace(there, here)
    write_bundle(folder, {**files, "nginx.conf": conf.encode()})
    return folder / "nginx.conf"


@contextmanager
def running_sidecar(
    folder: Path, bundle: Path, endpoint: Endpoint, changes: Mapping[str, str] = NONE
) -> Iterator[Nginx]:
    """The sidecar on a free port, in front of `endpoint`."""
    port = free_port()
    conf = prepare(folder, bundle, endpoint, f"127.0.0.1:{port}", changes)
    with running_nginx(conf, f"http://127.0.0.1:{port}", port) as sidecar:
        yield sidecar


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
        async with asyncio.timeout(60):
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
