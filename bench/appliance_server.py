"""The appliance as a subprocess: daemon and worker, with state of its own that goes with it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import aiohttp
import msgspec
import psutil

from appliance.admin_client import AdminClient
from appliance.security.tls import client_context
from appliance.types import ModelSpec
from appliance.upstream_spec import ServedModel
from appliance.worker.process_name import ENGINE
from bench.lean_client import ApplianceClient
from bench.server import peak_mib, stop

_READY: Final = b"Ctrl-C stops it."
FIRST_CLIENT: Final = "demo"


class ApplianceServer:
    """A daemon whose model is loaded."""

    def __init__(self, process: subprocess.Popen[bytes], state: Path) -> None:
        self._state = state
        self.daemon = psutil.Process(process.pid)

    async def connect(self, client: str = FIRST_CLIENT, user: str = "") -> ApplianceClient:
        """A connection of the principal `client`, handshake done. user: the flow that its requests belong to."""
        bundle = self._state / "clients" / client
        url = (self._state / "run" / "api.url").read_text()
        return await ApplianceClient.connect(
            url, client_context(bundle), (bundle / "api.key").read_text().strip(), user
        )

    def session(self, client: str) -> aiohttp.ClientSession:
        """A pool of connections of the principal `client`, which tries nothing but GET again."""
        bundle = self._state / "clients" / client
        return aiohttp.ClientSession(
            (self._state / "run" / "api.url").read_text(),
            headers={"Authorization": f"Bearer {(bundle / 'api.key').read_text().strip()}"},
            connector=aiohttp.TCPConnector(ssl=client_context(bundle)),
        )

    def admin(self) -> AdminClient:
        """Its administrator."""
        return AdminClient.local(self._state / "run" / "admin.sock")

    @property
    def worker(self) -> psutil.Process:
        """Of its model."""
        (worker,) = (each for each in self.daemon.children() if each.name() == ENGINE)
        return worker

    def peak_mib(self) -> dict[str, float]:
        """Daemon and worker."""
        return {"daemon": peak_mib(self.daemon.pid), "worker": peak_mib(self.worker.pid)}


@contextmanager
def running_appliance(
    spec: ServedModel, clients: tuple[str, ...] = (), *, module: str = "appliance"
) -> Iterator[ApplianceServer]:
    """`appliance serve` on a free port with `spec` loaded, and bundles for `clients` beside the first one.

    module: what is run as that command.

    Raises RuntimeError with the end of its log where it does not start.
    """
    with tempfile.TemporaryDirectory() as folder:
        models, state, log = (Path(folder) / name for name in ("models.yaml", "state", "log"))
        engine = "llama" if isinstance(spec, ModelSpec) else "upstream"
        models.write_bytes(msgspec.yaml.encode({"models": [{"engine": engine, **msgspec.to_builtins(spec)}]}))
        with log.open("wb") as errors:
            process = subprocess.Popen(
                _command("serve", "--port", "0", "--models", str(models), "--state-dir", str(state), module=module),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        try:
            assert process.stdout is not None
            if not any(line.startswith(_READY) for line in process.stdout):
                raise RuntimeError(f"the appliance does not start:\n{log.read_text()[-2000:]}")
            for client in clients:
                _run("clients", "add", client, "--state-dir", str(state))
            yield ApplianceServer(process, state)
        finally:
            stop(process)


def _run(*arguments: str) -> None:
    subprocess.run(_command(*arguments), check=True, stdout=subprocess.DEVNULL)


def _command(*arguments: str, module: str = "appliance") -> list[str]:
    return [sys.executable, "-m", module, *arguments]
