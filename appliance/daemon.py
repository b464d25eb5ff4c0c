"""The daemon: the one place where its parts are made and tied together."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import logging
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvloop
from aiohttp import web

from appliance.access_config import Listener
from appliance.api.app import ApiRunner, build_app
from appliance.config import Config
from appliance.errors import ConfigError
from appliance.models.launcher import SpawnLauncher
from appliance.models.router import Router
from appliance.security.access import Principal
from appliance.security.authority import AccessControl
from appliance.security.gate import Gate
from appliance.state_dir import StateDir, write_atomic
from appliance.tasks import TaskOwner
from appliance.telemetry.request_log import RequestLog
from appliance.types import ModelSpec

_log = logging.getLogger(__name__)
_ACCEPT_BACKLOG: Final = 1024


@dataclass(frozen=True, slots=True)
class Settings:
    """What `appliance serve` was told, parsed and validated."""

    config: Config
    models: tuple[ModelSpec, ...]
    state: StateDir


@dataclass(frozen=True, slots=True)
class Ready:
    """What is true once the daemon serves. url: where a client on this host reaches the API, without `/v1`."""

    url: str
    models: tuple[str, ...]
    clients: Path


def serve(settings: Settings, announce: Callable[[Ready], None]) -> None:
    """Runs the daemon until SIGTERM or SIGINT. Calls `announce` when it serves and preloaded models have settled.

    Raises ConfigError or StateError when it cannot start.
    """
    settings.state.prepare()
    with settings.state.lock():
        access = AccessControl.open(settings.state, settings.config)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_Daemon(settings, access, announce).run())


class _Daemon:
    """The wired parts of one run; also the API's doorkeeper, between the gate and the access decision."""

    def __init__(self, settings: Settings, access: AccessControl, announce: Callable[[Ready], None]) -> None:
        config = settings.config
        self._settings = settings
        self._access = access
        self._announce = announce
        self._router = Router(settings.models, SpawnLauncher(), config.requests, config.worker)
        self._request_log = RequestLog(
            settings.state.store / "requests.jsonl",
            file_bytes_max=config.request_log.file_bytes_max,
            files_max=config.request_log.files_max,
        )

    @property
    def _main_listener(self) -> Listener:
        return next(iter(self._settings.config.listeners.values()))

    async def run(self) -> None:
        """Startup, main loop, shutdown."""
        with contextlib.closing(self._request_log), _bind(self._main_listener) as listening:
            stop = _stop_requested(self._router)
            runner = await self._startup(listening)
            try:
                await self._main_loop(stop, _url(listening))
            finally:
                await self._shutdown(runner)

    async def _startup(self, listening: socket.socket) -> ApiRunner:
        config = self._settings.config
        app = build_app(self._router, config.requests, config.principals, self, self._request_log.add)
        runner = ApiRunner(app, keepalive_seconds=config.connections.keepalive_seconds)
        await runner.setup()
        assert runner.server is not None
        self._gate = Gate(
            listening,
            runner.server,
            context=self._access.server_context,
            allowlist=lambda: self._access.allowlist,
            limits=config.connections,
        )
        self._gate.start()
        self._router.start()
        return runner

    async def _main_loop(self, stop: asyncio.Event, url: str) -> None:
        state, tasks = self._settings.state, TaskOwner("daemon")
        write_atomic(state.api_url, url.encode())
        _log.info("listening on %s", url)
        tasks.spawn(self._announce_when_settled(url), name="announce")
        await stop.wait()
        await tasks.close()
        state.api_url.unlink(missing_ok=True)

    async def _announce_when_settled(self, url: str) -> None:
        await self._router.preloaded()
        models = tuple(spec.id for spec in self._settings.models)
        self._announce(Ready(url=url, models=models, clients=self._settings.state.clients))

    async def _shutdown(self, runner: ApiRunner) -> None:
        seconds = self._settings.config.shutdown.drain_seconds
        _log.info("stopping; running requests have %.0f s, or until the next signal", seconds)
        await self._gate.close()
        await self._router.close(seconds)
        await runner.cleanup()
        self._access.close()

    def address(self, http: web.Request) -> str:
        """The peer's address, as the gate saw it."""
        return str(self._gate.peer(http.protocol).address)

    def authenticate(self, http: web.Request, authorization: Sequence[str]) -> Principal:
        """The principal behind the connection's certificate and the request's key."""
        return self._access.authenticate(self._gate.peer(http.protocol), authorization)


def _stop_requested(router: Router) -> asyncio.Event:
    """Set by the first SIGTERM or SIGINT; the next one ends the patience with running requests."""
    stop = asyncio.Event()

    def signalled() -> None:
        if stop.is_set():
            router.hurry()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, signalled)
    return stop


def _bind(listener: Listener) -> socket.socket:
    """The listening socket. Raises ConfigError with what to do."""
    try:
        address = ipaddress.ip_address(listener.host)
    except ValueError:
        raise ConfigError(f"host {listener.host!r} is not an IP address; 0.0.0.0 means every one") from None
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    dual = listener.host == "::"
    try:
        return socket.create_server(
            (listener.host, listener.port), family=family, backlog=_ACCEPT_BACKLOG, dualstack_ipv6=dual
        )
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"port {listener.port} on {listener.host} is in use; choose another with --port"
            ) from None
        raise ConfigError(f"cannot listen on {listener.host} port {listener.port}: {error.strerror}") from None


def _url(listening: socket.socket) -> str:
    """Where a client on this host reaches the listener."""
    host, port = listening.getsockname()[:2]
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"https://[{reachable}]:{port}" if ":" in reachable else f"https://{reachable}:{port}"
