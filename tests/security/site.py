"""A tiny HTTP application behind the real gate, with real sockets and real TLS on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

from appliance.access_config import Listener
from appliance.audit.record import APPLIANCE
from appliance.config import Config, ConnectionLimits
from appliance.errors import RequestError
from appliance.security.bundle_folder import write_bundle
from appliance.security.client_bundle import add_client
from appliance.security.gate import Gate, GateCounters
from appliance.security.opening import open_security
from appliance.security.tls import client_context
from appliance.state_dir import StateDir

STREAM_CHUNKS = 200


class Clock:
    """Shows the real time until a test moves it."""

    def __init__(self) -> None:
        self.now: datetime | None = None

    def __call__(self) -> datetime:
        return self.now or datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: dict[str, Any]


class Site:
    """`context` and `allowlist` may be replaced at any time, as a reload would."""

    def __init__(self, state: StateDir, config: Config) -> None:
        self.state = state
        self.clock = Clock()
        self.security = open_security(state, config, state.path, {}, create=True, now=self.clock)
        self.office = self.security.office
        self.access = self.office.access
        self.context = self.access.server_context("api")
        self.allowlist = self.access.allowlist("api")
        self._limits = config.connections

    @classmethod
    @contextlib.asynccontextmanager
    async def serve(cls, state: StateDir, config: Config) -> AsyncIterator[Site]:
        site = cls(state, config)
        app = web.Application()
        app.router.add_get("/", site._whoami)
        app.router.add_get("/stream", site._stream)
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
        await runner.setup()
        assert runner.server is not None
        listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
        site.port = listening.getsockname()[1]
        site.gate = Gate(
            listening,
            runner.server,
            context=lambda: site.context,
            allowlist=lambda: site.allowlist,
            limits=site._limits,
            now=site.clock,
        )
        site.gate.start()
        try:
            yield site
        finally:
            await site.gate.close()
            await runner.cleanup()
            site.security.close()

    port: int
    gate: Gate

    def tls(self, client: str = "demo") -> ssl.SSLContext:
        """The context of one of the appliance's clients."""
        return client_context(self.state.clients / client)

    async def add_client(self, name: str) -> None:
        """One more client, its bundle where the demo's is."""
        life = timedelta(days=1)
        change = await self.office.change(
            APPLIANCE,
            "client.create",
            name,
            lambda document, now: add_client(document, self.office.profiles, name, now, life=life),
        )
        write_bundle(self.state.clients / name, change.result)

    def bearer(self, client: str = "demo") -> str:
        return f"Bearer {(self.state.clients / client / 'api.key').read_text().strip()}"

    async def ask(
        self, tls: ssl.SSLContext | None = None, *authorization: str, source: str = "127.0.0.1", path: str = "/"
    ) -> Answer:
        """One request on a connection of its own, as client `demo` unless told otherwise."""
        async with self.connect(tls or self.tls(), source) as connection:
            return await connection.ask(authorization or (self.bearer(),), path)

    @contextlib.asynccontextmanager
    async def connect(self, tls: ssl.SSLContext, source: str = "127.0.0.1") -> AsyncIterator[Connection]:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=tls, server_hostname="localhost", local_addr=(source, 0)
        )
        try:
            yield Connection(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def alert(self, tls: ssl.SSLContext) -> str:
        """The TLS alert that a client is turned away with; fails where it is not, or sees a bare end."""
        try:
            answer = await self.ask(tls)
        except ssl.SSLError as error:
            assert error.reason is not None
            return error.reason
        raise AssertionError(f"got in: {answer}")

    async def raw(self, data: bytes, source: str = "127.0.0.1") -> bytes:
        """What comes back for bytes on a bare TCP connection, up to its end."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(source, 0))
        try:
            writer.write(data)
            return await asyncio.wait_for(reader.read(), 60)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def settled(self, seconds: float = 30.0) -> GateCounters:
        """The counters once nothing is held any more; fails after `seconds`."""
        return await self.until(lambda counters: counters.open + counters.in_handshake == 0, seconds)

    async def until(self, reached: Callable[[GateCounters], bool], seconds: float = 30.0) -> GateCounters:
        """The first counters that fit; fails after `seconds`."""
        for _ in range(int(seconds * 100)):
            if reached(counters := self.gate.counters()):
                return counters
            await asyncio.sleep(0.01)
        raise AssertionError(f"still {self.gate.counters()} after {seconds} s")

    async def _whoami(self, request: web.Request) -> web.Response:
        try:
            principal = self.access.authenticate(
                self.gate.peer(request.protocol), request.headers.getall("Authorization", [])
            )
        except RequestError as error:
            return web.json_response({"code": error.code, "message": error.message}, status=error.status)
        return web.json_response({"principal": principal.id, "kid": principal.kid})

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for number in range(STREAM_CHUNKS):
            await response.write(f"{number}\n".encode())
            await asyncio.sleep(0.005)
        return response


class Connection:
    """One kept-alive HTTP connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, authorization: Sequence[str], path: str = "/") -> Answer:
        headers = "".join(f"Authorization: {value}\r\n" for value in authorization)
        self.writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode())
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.partition(b":")[2]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
        )
        return Answer(int(head.split()[1]), json.loads(await self.reader.readexactly(length)))


def config(*allow: str, **limits: Any) -> Config:
    """The defaults, but for the limits of connections that a test is about, and for the patience of a busy machine."""
    return Config(
        listeners={"api": Listener(allow=allow)}, connections=ConnectionLimits(**({"handshake_seconds": 30} | limits))
    )
