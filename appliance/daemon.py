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

from aiohttp import web

from appliance.api.app import ApiRunner, build_app
from appliance.config import Config, Listener
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
        asyncio.run(_Daemon(settings, access, announce).run())


class _Daemon:
    def __init__(self, settings: Settings, access: AccessControl, announce: Callable[[Ready], None]) -> None:
        self._settings = settings
        self._access = access
        self._announce = announce

    async def run(self) -> None:
        """Startup, main loop, shutdown."""
        stop = _stop_requested()
        config, state = self._settings.config, self._settings.state
        with _bind(config.listener) as listening, contextlib.closing(self._request_log()) as request_log:
            router = Router(self._settings.models, SpawnLauncher(), config.requests, config.worker)
            runner = ApiRunner(
                build_app(router, config.requests, self, request_log.add),
                keepalive_seconds=config.connections.keepalive_seconds,
            )
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
            router.start()
            url = _url(listening)
            write_atomic(state.api_url, url.encode())
            _log.info("listening on %s", url)
            try:
                await self._main_loop(stop, router, url)
            finally:
                state.api_url.unlink(missing_ok=True)
                _log.info("stopping; running requests have %.0f s", config.shutdown.drain_seconds)
                await self._gate.close()
                await router.close(config.shutdown.drain_seconds)
                await runner.cleanup()
                self._access.close()

    async def _main_loop(self, stop: asyncio.Event, router: Router, url: str) -> None:
        tasks = TaskOwner("daemon")
        tasks.spawn(self._announce_when_settled(router, url), name="announce")
        await stop.wait()
        await tasks.close()

    async def _announce_when_settled(self, router: Router, url: str) -> None:
        await router.preloaded()
        models = tuple(spec.id for spec in self._settings.models)
        self._announce(Ready(url=url, models=models, clients=self._settings.state.clients))

    def _request_log(self) -> RequestLog:
        limits = self._settings.config.request_log
        return RequestLog(
            self._settings.state.store / "requests.jsonl",
            file_bytes_max=limits.file_bytes_max,
            files_max=limits.files_max,
        )

    # ── the API's doorkeeper ──────────────────────────────────────────────────────────────────────────────────────

    def address(self, http: web.Request) -> str:
        """The peer's address, as the gate saw it."""
        return str(self._gate.peer(http.protocol).address)

    def authenticate(self, http: web.Request, authorization: Sequence[str]) -> Principal:
        """The principal behind the connection's certificate and the request's key."""
        return self._access.authenticate(self._gate.peer(http.protocol), authorization)


def _stop_requested() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def _bind(listener: Listener) -> socket.socket:
    """The listening socket. Raises ConfigError with what to do."""
    try:
        address = ipaddress.ip_address(listener.host)
    except ValueError:
        raise ConfigError(f"listener.host {listener.host!r} is not an IP address; 0.0.0.0 means every one") from None
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
