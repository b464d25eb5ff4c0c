"""Every listener of the API with its gate: who is at the other end, who a request is from, and who must go.

The doorkeeper of the API, between the gates and access control.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import ipaddress
import socket
from collections.abc import Mapping, Sequence
from typing import Final

from aiohttp import web

from appliance.access_config import Listener, RemoteAdmin
from appliance.api.app import ApiRunner
from appliance.errors import ConfigError, RequestError
from appliance.security.access import Principal
from appliance.security.allowlist import Address
from appliance.security.denied_addresses import DeniedAddress
from appliance.security.disk_guard import DiskGuard
from appliance.security.failure_delay import FailureDelays
from appliance.security.gate import Gate, GateCounters
from appliance.security.office import Office
from appliance.security.refusal_audit import audited_refusals
from appliance.systemd import PassedSockets

_ACCEPT_BACKLOG: Final = 1024
_RETRY_SECONDS: Final = 5
# How long a stop waits for the first request of who was accepted before it.
ARRIVAL_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 0.005


class FrontDoor:
    """Belongs to the event loop. sockets: bound by `bind_all`, by the listener's name.

    refused: takes refusals for the audit log.
    """

    def __init__(self, office: Office, sockets: Mapping[str, socket.socket], disk: DiskGuard | None = None) -> None:
        self._office = office
        self._disk = disk
        self._sockets = sockets
        self._gates: dict[str, Gate] = {}
        self._failures = FailureDelays()
        self.refused = audited_refusals(office.audit)

    async def open(self, runner: ApiRunner) -> None:
        """Begins to accept at every listener; `runner` is set up."""
        assert runner.server is not None
        for number, (name, listening) in enumerate(self._sockets.items()):
            self.add(name, listening, runner.server if number == 0 else await runner.further_server())

    def add(self, name: str, listening: socket.socket, server: web.Server) -> Gate:
        """Begins to accept at one more listener, by the view's rules for it."""
        access = self._office.access
        gate = Gate(
            listening,
            server,
            context=lambda: access.server_context(name),
            allowlist=lambda: access.allowlist(name),
            limits=self._office.config.connections,
            now=self._office.now,
            listener=name,
            admitted=lambda address: self._admitted(name, address),
            refused=self.refused,
        )
        self._gates[name] = gate
        gate.start()
        return gate

    async def close(self) -> None:
        """Stops accepting; who was accepted is still heard, and established connections stay."""
        for gate in self._gates.values():
            gate.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ARRIVAL_SECONDS):
                while any(gate.is_arriving() for gate in self._gates.values()):  # noqa: ASYNC110
                    await asyncio.sleep(_LOOK_SECONDS)
        for gate in self._gates.values():
            await gate.close()

    def cut(self) -> int:
        """Ends the connections that must, by the view of now; returns how many."""
        return sum(gate.cut(self._office.access.must_end) for gate in self._gates.values())

    def port(self, listener: str) -> int | None:
        """Where a listener listens; None where there is none of this name."""
        listening = self._sockets.get(listener)
        return None if listening is None else int(listening.getsockname()[1])

    def counters(self) -> dict[str, GateCounters]:
        """A snapshot, by listener."""
        return {name: gate.counters() for name, gate in self._gates.items()}

    def denied(self, limit: int) -> dict[str, list[DeniedAddress]]:
        """Whom the allowlist has turned away in the last hour, by listener; `last` is UTC seconds since 1970."""
        ahead = self._office.now().timestamp() - asyncio.get_running_loop().time()
        return {
            name: [dataclasses.replace(one, last=one.last + ahead) for one in gate.denied(limit)]
            for name, gate in self._gates.items()
        }

    def address(self, http: web.Request) -> str:
        """The peer's address, as its gate saw it."""
        return str(self._gate_of(http).peer(http.protocol).address)

    def gate_seconds(self, http: web.Request) -> float | None:
        """How long the gate took with this request's connection; for its first request alone."""
        return self._gate_of(http).gate_seconds(http.protocol)

    def check_recordable(self) -> None:
        """What cannot be recorded does not happen."""
        if not self._office.audit.available:
            raise RequestError(
                "audit_unavailable",
                "the appliance cannot write its audit log and serves nothing until it can; tell its operator",
                retry_after=_RETRY_SECONDS,
            )
        if self._disk is not None and self._disk.room == "too_little":
            raise RequestError(
                "audit_unavailable",
                "the appliance's disk is nearly full and it serves nothing until there is room; tell its operator",
                retry_after=_RETRY_SECONDS,
            )

    def authenticate(self, http: web.Request, authorization: Sequence[str]) -> Principal:
        """The principal behind the connection's certificate and the request's key or token."""
        gate = self._gate_of(http)
        principal = self._office.access.authenticate(gate.peer(http.protocol), authorization)
        gate.note(http.protocol, principal)
        return principal

    async def slow_down(self, http: web.Request) -> None:
        """Waits where this address has failed too often."""
        address = self._gate_of(http).peer(http.protocol).address
        with self._failures.failed(address, asyncio.get_running_loop().time()) as delay:
            if delay.seconds > 0:
                await asyncio.sleep(delay.seconds)

    def _gate_of(self, http: web.Request) -> Gate:
        for gate in self._gates.values():
            if gate.holds(http.protocol):
                return gate
        raise ConnectionResetError("the client has gone")

    def _admitted(self, listener: str, address: Address) -> None:
        self._office.seen.note_address(listener, address, self._office.now())


def bind_all(listeners: Mapping[str, Listener], passed: PassedSockets) -> dict[str, socket.socket]:
    """The listening socket of every listener; all or none. Raises ConfigError with what to do.

    passed: the sockets of systemd's units count more than host and port in appliance.yaml.
    """
    sockets: dict[str, socket.socket] = {}
    try:
        for name, listener in listeners.items():
            sockets[name] = passed.take(name) or bind(f"listeners.{name}", listener)
    except BaseException:
        for listening in sockets.values():
            listening.close()
        raise
    return sockets


def bind(key: str, listener: Listener | RemoteAdmin) -> socket.socket:
    """A listening socket. Raises ConfigError with what to do."""
    try:
        address = ipaddress.ip_address(listener.host)
    except ValueError:
        raise ConfigError(f"{key}.host {listener.host!r} is not an IP address; 0.0.0.0 means every one") from None
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    dual = listener.host == "::"
    try:
        return socket.create_server(
            (listener.host, listener.port), family=family, backlog=_ACCEPT_BACKLOG, dualstack_ipv6=dual
        )
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"{key}: port {listener.port} on {listener.host} is in use; choose another with --port"
            ) from None
        raise ConfigError(f"{key}: cannot listen on {listener.host} port {listener.port}: {error.strerror}") from None


def url_of(listening: socket.socket) -> str:
    """Where a client on this host reaches a listener."""
    host, port = listening.getsockname()[:2]
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"https://[{reachable}]:{port}" if ":" in reachable else f"https://{reachable}:{port}"
