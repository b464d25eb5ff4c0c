"""The real API behind the real gate, with the scripted worker behind it: mutual TLS on loopback, in this process."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from appliance.alias_spec import ModelsFile
from appliance.api.app import ApiRunner, build_app
from appliance.config import Config, ConnectionLimits, RequestLimits
from appliance.front_door import FrontDoor
from appliance.models.registry import Means
from appliance.models.router import Router
from appliance.security.limits import PrincipalLimits
from appliance.security.office import Office
from appliance.security.opening import open_security
from appliance.security.tls import client_context
from appliance.state_dir import StateDir
from appliance.telemetry.request_record import RequestRecord
from appliance.telemetry.tracing import Tracing
from appliance.types import ModelSpec, SamplingParams
from tests.fakes.forking_launcher import ForkingLauncher

ERROR_BYTES_MAX = 8192
MODEL = ModelSpec(id="demo", path="/nowhere.gguf", preload=True, sampling=SamplingParams(temperature=0))


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP answer. error: of its envelope, empty where the answer is none."""

    status: int
    head: bytes
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        """The `error` of the body; fails for a body that is no OpenAI-shaped error."""
        error: dict[str, Any] = msgspec.json.decode(self.body)["error"]
        assert set(error) >= {"message", "type", "param", "code"}, error
        return error


@dataclass(frozen=True, slots=True)
class Conversation:
    """Everything that came back on one connection. closed: by the appliance, within the time given."""

    raw: bytes
    closed: bool

    @property
    def replies(self) -> list[Reply]:
        """The answers, one after the other; every one of them has a Content-Length."""
        replies, rest = [], self.raw
        while rest:
            head, _, rest = rest.partition(b"\r\n\r\n")
            lines = head.lower().split(b"\r\n")
            (length,) = [int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:")] or [0]
            replies.append(Reply(int(head.split()[1]), head, rest[:length]))
            rest = rest[length:]
        return replies


@dataclass
class GatedApi:
    """A running API; `records` are its finished requests."""

    state: StateDir
    router: Router
    port: int
    office: Office
    records: list[RequestRecord] = field(default_factory=list)

    @property
    def bearer(self) -> bytes:
        """The Authorization header of client `demo`."""
        return b"Authorization: Bearer " + (self.state.clients / "demo" / "api.key").read_bytes().strip() + b"\r\n"

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection of client `demo`."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=client_context(self.state.clients / "demo"), limit=2**22
        )
        try:
            yield reader, writer
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def send(self, data: bytes, *, seconds: float = 60) -> Conversation:
        """Sends `data` on a connection of its own and listens until the other side closes it, or for `seconds`."""
        async with self.connect() as (reader, writer):
            writer.write(data)
            raw, closed = b"", True
            try:
                async with asyncio.timeout(seconds) as patience:
                    while piece := await reader.read(65536):
                        raw += piece
            except TimeoutError:
                closed = False
            except ConnectionError:
                assert not patience.expired()
            return Conversation(raw, closed)

    async def post(self, path: str, body: bytes, *headers: bytes) -> Reply:
        """One well-formed request; the appliance closes after its answer."""
        lines = b"".join(header + b"\r\n" for header in headers)
        conversation = await self.send(
            b"POST %s HTTP/1.1\r\nHost: a\r\n%sConnection: close\r\nContent-Length: %d\r\n%s\r\n"
            % (path.encode(), self.bearer, len(body), lines)
            + body
        )
        (reply,) = conversation.replies
        return reply


@asynccontextmanager
async def gated_api(
    state: StateDir,
    limits: RequestLimits | None = None,
    connections: ConnectionLimits | None = None,
    tracing: Tracing | None = None,
) -> AsyncIterator[GatedApi]:
    """Serves until the block ends; the state directory is prepared."""
    limits, connections = limits or RequestLimits(), connections or ConnectionLimits()
    router = Router(ModelsFile(models=(MODEL,)), limits, Means(ForkingLauncher()))
    config = Config(connections=connections, requests=limits)
    security = open_security(state, config, state.path, {}, create=True)
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    door = FrontDoor(security.office, {"api": listening})
    api = GatedApi(state, router, listening.getsockname()[1], security.office)
    parts = (router, lambda: limits, PrincipalLimits(), security.office.now, door, api.records.append)
    app = build_app(*parts, tracing=tracing)
    runner = ApiRunner(app, keepalive_seconds=connections.keepalive_seconds)
    await runner.setup()
    await door.open(runner)
    router.start()
    await router.preloaded()
    try:
        yield api
    finally:
        await door.close()
        await router.close(0)
        await runner.cleanup()
        security.close()


@asynccontextmanager
async def shared_api(state: StateDir) -> AsyncIterator[GatedApi]:
    """For tables of hostile requests: whatever they send, nothing of it is left and none of it was a fault of ours."""
    state.prepare()
    async with gated_api(state) as api:
        yield api
        assert (await api.post("/v1/completions", b'{"model": "demo", "prompt": "say:x"}')).status == 200
        assert {record.status for record in api.records}.isdisjoint({500, 0})
        snapshot = api.router.snapshots()["demo"]
        assert (snapshot.outstanding, snapshot.restarts) == (0, 0)


def check_error(reply: Reply, status: int, code: str) -> dict[str, Any]:
    """The `error` of a refusal that says enough, and no more than it should."""
    assert (reply.status, reply.error["code"]) == (status, code), reply
    assert reply.error["message"]
    assert len(reply.body) < ERROR_BYTES_MAX
    assert b"Traceback" not in reply.body
    assert b"aiohttp" not in reply.head + reply.body
    return reply.error
