"""The accept loop: decides about a connection before any TLS work, then hands it to the HTTP server.

In order: allowlist → rate of its address → caps (in all, per address) → its first byte has come → a turn to shake
hands → TLS with the context of this moment → HTTP. Refusals before TLS are a TCP reset. A connection that fails the
handshake gets its TLS alert, and the log says why and from where.

A turn is for the processor time of a handshake, so that a burst of honest connections only queues. A socket that sends
nothing takes none, one that lets us wait has to give its turn back, and one address takes at most half of the turns.
So neither silent sockets nor stalled ones keep other clients out, nor honest clients of their own address.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, NamedTuple

from aiohttp import web

from appliance.access_config import MAIN_LISTENER
from appliance.clock import Clock
from appliance.config import ConnectionLimits
from appliance.security.access import Principal
from appliance.security.address_rates import AddressRates
from appliance.security.allowlist import Address, Allowlist, normalise
from appliance.security.denied_addresses import DeniedAddress, DeniedAddresses
from appliance.security.handshake_failure import explain
from appliance.security.identity import Peer
from appliance.security.refusal_log import RefusalLog, Refused
from appliance.security.tls import capture_alert
from appliance.tasks import TaskOwner

_log = logging.getLogger(__name__)

ACCEPTS_PER_TURN_MAX: Final = 64
ACCEPT_PAUSE_SECONDS: Final = 0.2
TLS_CLOSE_SECONDS: Final = 2.0
# A handshake that takes longer waits for its client, which costs nothing but the connection. Ours take 2 ms.
TURN_SECONDS: Final = 0.1
# How long, and how many reads, a failed client gets to take its alert.
FAREWELL_SECONDS: Final = 1.0
FAREWELL_READS_MAX: Final = 16
_READ_BYTES: Final = 65536
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class GateCounters:
    """Totals since the start, then what is held now. `open` are past the handshake."""

    accepted: int
    denied_address: int
    denied_rate: int
    denied_cap: int
    handshake_failed: int
    open: int
    in_handshake: int


@dataclass(slots=True)
class _AddressUse:
    """What one address holds; lives while it holds anything."""

    turns: asyncio.Semaphore
    connections: int = 0


class Gate:
    """Owns the listening socket and the count of connections; belongs to one event loop.

    context and allowlist are asked anew for every connection, so replacing what they return affects the next one and
    no other. admitted is told the address of every connection that got through. refused: for the audit log. Each
    connection counts from accept until its HTTP protocol has lost it.
    """

    def __init__(
        self,
        listening: socket.socket,
        server: web.Server,
        *,
        context: Callable[[], ssl.SSLContext],
        allowlist: Callable[[], Allowlist],
        limits: ConnectionLimits,
        now: Clock,
        listener: str = MAIN_LISTENER,
        admitted: Callable[[Address], None] | None = None,
        refused: Refused | None = None,
    ) -> None:
        self._listening = listening
        self._listener = listener
        self._admitted = admitted
        self._server = server
        self._context = context
        self._allowlist = allowlist
        self._limits = limits
        self._now = now
        self._turns = asyncio.Semaphore(limits.handshakes_max)
        self._addresses: dict[Address, _AddressUse] = {}
        self._handshaking: dict[web.RequestHandler, _Handshake] = {}
        # Of connections whose first request has not come.
        self._gate_seconds: dict[web.RequestHandler, float] = {}
        self._peers: dict[web.RequestHandler, Peer] = {}
        # Nobody has asked who is at the other end, as every request does.
        self._unheard: set[web.RequestHandler] = set()
        self._principals: dict[web.RequestHandler, Principal] = {}
        self._rates = AddressRates(limits.address_per_second, limits.address_burst)
        self._accepted = self._denied_address = self._denied_rate = self._denied_cap = self._handshake_failed = 0
        self._denied = DeniedAddresses()
        self._tasks = TaskOwner("gate")
        self._refusals = RefusalLog(_log, refused)
        self._pause: asyncio.TimerHandle | None = None
        self._follow_connections()

    def start(self) -> None:
        """Begins to accept."""
        self._pause = None
        self._listening.setblocking(False)
        asyncio.get_running_loop().add_reader(self._listening, self._accept)

    def stop(self) -> None:
        """Stops accepting. Who comes now is the next process's, where somebody else keeps the socket open."""
        if self._pause is not None:
            self._pause.cancel()
        if self._listening.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._listening)
            self._listening.close()

    def is_arriving(self) -> bool:
        """Whether a connection that was accepted has not sent its first request yet."""
        return bool(self._handshaking or self._unheard)

    async def close(self) -> None:
        """Stops, and drops unfinished handshakes. Established connections stay; the HTTP server ends them."""
        self.stop()
        await self._tasks.close()
        self._refusals.close()

    def peer(self, protocol: web.RequestHandler) -> Peer:
        """Who is at the other end of `request.protocol`. Raises ConnectionResetError when it has gone."""
        self._unheard.discard(protocol)
        peer = self._peers.get(protocol)
        if peer is None:
            raise ConnectionResetError("the client has gone")
        return peer

    def holds(self, protocol: web.RequestHandler) -> bool:
        """Whether this connection came in here and is still open."""
        return protocol in self._peers

    def gate_seconds(self, protocol: web.RequestHandler) -> float | None:
        """How long the connection took from its acceptance to the end of its handshake; told once."""
        return self._gate_seconds.pop(protocol, None)

    def note(self, protocol: web.RequestHandler, principal: Principal) -> None:
        """Remembers who the connection's latest request is from."""
        if protocol in self._peers:
            self._principals[protocol] = principal

    def cut(self, why: Callable[[Peer, Principal | None], str | None]) -> int:
        """Ends every open connection for which `why` has a reason, at once, and returns how many.

        why: is asked with the peer and who its latest request is from.
        """
        ended = 0
        for protocol, peer in list(self._peers.items()):
            reason = why(peer, self._principals.get(protocol))
            if reason is not None and protocol.transport is not None:
                self._refusals.record(str(peer.address), "cut", f"{reason}; the connection was cut")
                protocol.transport.abort()
                ended += 1
        return ended

    def counters(self) -> GateCounters:
        """A snapshot."""
        return GateCounters(
            accepted=self._accepted,
            denied_address=self._denied_address,
            denied_rate=self._denied_rate,
            denied_cap=self._denied_cap,
            handshake_failed=self._handshake_failed,
            open=len(self._peers),
            in_handshake=len(self._handshaking),
        )

    def denied(self, limit: int) -> list[DeniedAddress]:
        """Whom the allowlist has turned away in the last hour, most often first. `last`: on the loop's clock."""
        return self._denied.most_denied(asyncio.get_running_loop().time(), limit)

    def _accept(self) -> None:
        for _ in range(ACCEPTS_PER_TURN_MAX):
            try:
                connection, name = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause_accepting(error)
                return
            self._admit(connection, normalise(name[0]))

    def _pause_accepting(self, error: OSError) -> None:
        """Out of file descriptors or memory: the connection stays in the backlog and would wake us for ever."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._listening)
        self._pause = loop.call_later(ACCEPT_PAUSE_SECONDS, self.start)
        self._refusals.record("the gate", "cannot_accept", f"cannot accept connections: {error.strerror}")

    def _admit(self, connection: socket.socket, address: Address) -> None:
        self._accepted += 1
        if not self._allowlist().allows(address, self._now()):
            self._denied_address += 1
            self._denied.note(address, asyncio.get_running_loop().time())
            self._reset(connection, address, "denied_address", "is not in the allowlist")
        elif self._rates.take(address, asyncio.get_running_loop().time()) > 0:
            self._denied_rate += 1
            many = f"was turned away: more than {self._limits.address_per_second:g} new connections a second"
            self._reset(connection, address, "denied_rate", many)
        elif (full := self._cap_reached(address)) is not None:
            self._denied_cap += 1
            self._reset(connection, address, "denied_cap", full)
        else:
            connection.setblocking(False)
            protocol = self._server()
            self._handshaking[protocol] = _Handshake(address, asyncio.get_running_loop().time())
            self._use(address).connections += 1
            task = self._tasks.spawn(self._establish(connection, address, protocol), name=f"handshake {address}")
            # Not at the end of the task itself: one that is cancelled before its first step has no end.
            task.add_done_callback(lambda _: self._settle(connection, address, protocol))

    def _cap_reached(self, address: Address) -> str | None:
        limits = self._limits
        if len(self._handshaking) + len(self._peers) >= limits.connections_max:
            return f"was turned away: all {limits.connections_max} connections are in use"
        use = self._addresses.get(address)
        if use is not None and use.connections >= limits.connections_per_address_max:
            return f"was turned away: it has {use.connections} connections already"
        return None

    def _reset(self, connection: socket.socket, address: Address, reason: str, sentence: str) -> None:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        connection.close()
        self._refusals.record(str(address), reason, sentence)

    async def _establish(self, connection: socket.socket, address: Address, protocol: web.RequestHandler) -> None:
        try:
            # Outlives the transport, which asyncio closes on failure before the alert is sent.
            with connection.dup() as wire, capture_alert() as alert:
                try:
                    await self._handshake(connection, address, protocol)
                except OSError as error:
                    self._count_failure(address, error)
                    await _farewell(wire, alert.records)
        except OSError as error:
            self._count_failure(address, error)

    def _settle(self, connection: socket.socket, address: Address, protocol: web.RequestHandler) -> None:
        """The handshake is over; unless the HTTP server has the connection now, so is the connection."""
        if self._handshaking.pop(protocol, None) is not None:
            connection.close()
            self._release(address)

    async def _handshake(self, connection: socket.socket, address: Address, protocol: web.RequestHandler) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._limits.handshake_seconds
        with _Turn(self._use(address).turns, self._turns) as turn:
            async with asyncio.timeout_at(deadline):
                await _first_byte(connection)
                await turn.take()
            await loop.connect_accepted_socket(
                lambda: protocol,
                connection,
                ssl=self._context(),
                ssl_handshake_timeout=max(deadline - loop.time(), 0.001),
                ssl_shutdown_timeout=TLS_CLOSE_SECONDS,
            )

    def _count_failure(self, address: Address, error: OSError) -> None:
        self._handshake_failed += 1
        failure = explain(error)
        self._refusals.record(str(address), failure.reason, failure.sentence)

    def _use(self, address: Address) -> _AddressUse:
        use = self._addresses.get(address)
        if use is None:
            use = _AddressUse(asyncio.Semaphore(max(1, self._limits.handshakes_max // 2)))
            self._addresses[address] = use
        return use

    def _release(self, address: Address) -> None:
        use = self._addresses[address]
        use.connections -= 1
        if use.connections == 0:
            del self._addresses[address]

    def _follow_connections(self) -> None:
        """Hooks into the server: its protocols have slots and cannot carry a peer, nor be referenced weakly."""
        server, made, lost = self._server, self._server.connection_made, self._server.connection_lost

        def connection_made(protocol: web.RequestHandler, transport: asyncio.Transport) -> None:
            address, began = self._handshaking.pop(protocol)
            self._gate_seconds[protocol] = asyncio.get_running_loop().time() - began
            certificate = transport.get_extra_info("ssl_object").getpeercert(True)
            self._unheard.add(protocol)
            self._peers[protocol] = Peer(address, certificate, self._listener, self._now())
            made(protocol, transport)
            # The list may have changed since it was accepted, or the entry has ended.
            if not self._allowlist().allows(address, self._now()):
                self._refusals.record(str(address), "cut", "is not in the allowlist; the connection was cut")
                transport.abort()
            elif self._admitted is not None:
                self._admitted(address)

        def connection_lost(protocol: web.RequestHandler, error: BaseException | None = None) -> None:
            self._principals.pop(protocol, None)
            self._unheard.discard(protocol)
            self._gate_seconds.pop(protocol, None)
            peer = self._peers.pop(protocol, None)
            if peer is not None:
                self._release(peer.address)
            lost(protocol, error)

        server.connection_made = connection_made  # type: ignore[assignment]
        server.connection_lost = connection_lost  # type: ignore[assignment]


class _Handshake(NamedTuple):
    """began: on the loop's clock."""

    address: Address
    began: float


class _Turn:
    """A turn of the address, then one of all. Given back after TURN_SECONDS, or at the end of the block if earlier."""

    __slots__ = ("_semaphores", "_taken", "_timer")

    def __init__(self, *semaphores: asyncio.Semaphore) -> None:
        self._semaphores = semaphores
        self._taken: list[asyncio.Semaphore] = []
        self._timer: asyncio.TimerHandle | None = None

    async def take(self) -> None:
        for semaphore in self._semaphores:
            await semaphore.acquire()
            self._taken.append(semaphore)
        self._timer = asyncio.get_running_loop().call_later(TURN_SECONDS, self._give_back)

    def __enter__(self) -> _Turn:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._give_back()

    def _give_back(self) -> None:
        while self._taken:
            self._taken.pop().release()


async def _first_byte(connection: socket.socket) -> None:
    """Waits until there is something to read, the end included."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(connection, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(connection)


async def _farewell(wire: socket.socket, alert: bytes) -> None:
    """Sends the alert and takes in what the client still sends: closing over unread data would reset, and lose it."""
    if not alert:
        return
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):
        async with asyncio.timeout(FAREWELL_SECONDS):
            await loop.sock_sendall(wire, alert)
            wire.shutdown(socket.SHUT_WR)
            for _ in range(FAREWELL_READS_MAX):
                if not await loop.sock_recv(wire, _READ_BYTES):
                    break
