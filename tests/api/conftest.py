"""The API over plain HTTP on loopback, with the scripted worker behind it and a doorkeeper that knows one key."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime

import aiohttp
import msgspec
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.serialization import Encoding

from appliance.access_config import PrincipalSettings
from appliance.alias_spec import AliasSpec, ModelsFile
from appliance.api.app import ApiRunner, build_app
from appliance.api.captured import CaptureSink
from appliance.api.parting import Parting
from appliance.clock import utc_now
from appliance.config import RequestLimits, WorkerLimits
from appliance.errors import RequestError
from appliance.models.launcher import SpawnLauncher
from appliance.models.provenance import NO_PROVENANCE, Provenance
from appliance.models.registry import Means
from appliance.models.router import Router
from appliance.models.upstream.model import Dial
from appliance.responses.store import ResponseStore
from appliance.security.limits import PrincipalLimits
from appliance.telemetry.request_record import RequestRecord
from appliance.telemetry.tracing import Tracing
from appliance.types import ModelSpec, SamplingParams
from appliance.upstream_spec import ReplicaAccess, ServedModel
from tests.fakes.forking_launcher import ForkingLauncher
from tests.security.authorities import own_ca
from tests.sessions import owning_session

# What requests get that leave something to chance and have no seed.
SEED = 1234


@dataclass(frozen=True)
class KnownCaller:
    id: str = "tester"
    kid: str = "kid0"
    settings: PrincipalSettings = field(default_factory=PrincipalSettings)
    expires: datetime | None = None


class OneKey:
    """A doorkeeper at our own seam: `Bearer good` is the principal `tester`, `Bearer other` is `other`.

    recordable: whether what happens can be written down. slowed: how many failed authentications came by.
    """

    def __init__(self, principals: Mapping[str, PrincipalSettings]) -> None:
        self._principals = principals
        self.recordable = True
        self.slowed = 0
        self.expires: datetime | None = None

    def check_recordable(self) -> None:
        if not self.recordable:
            raise RequestError("audit_unavailable", "no", retry_after=5)

    async def slow_down(self, http: web.Request) -> None:
        self.slowed += 1

    def address(self, http: web.Request) -> str:
        return "127.0.0.1"

    def gate_seconds(self, http: web.Request) -> float | None:
        return None

    def authenticate(self, http: web.Request, authorization: Sequence[str]) -> KnownCaller:
        match list(authorization):
            case ["Bearer good"]:
                return self._caller("tester", "kid0")
            case ["Bearer other"]:
                return self._caller("other", "kid1")
        raise RequestError("invalid_api_key", "no")

    def _caller(self, name: str, kid: str) -> KnownCaller:
        return KnownCaller(name, kid, self._principals.get(name, PrincipalSettings()), self.expires)


@dataclass
class Api:
    """A running API: `session` has the good key; `records` are the finished requests; `part` lets its clients go."""

    url: str
    session: aiohttp.ClientSession
    router: Router
    door: OneKey
    parting: Parting
    runner: ApiRunner
    records: list[RequestRecord] = field(default_factory=list)

    async def part(self, seconds: float) -> None:
        self.parting.begin(seconds)
        await self.parting.wait(self.runner.connections)

    async def chat(self, script: str, **fields: object) -> aiohttp.ClientResponse:
        body = {"model": "demo", "messages": [{"role": "user", "content": script}], **fields}
        return await self.session.post("/v1/chat/completions", json=body)

    async def completion(self, script: str, **fields: object) -> aiohttp.ClientResponse:
        return await self.session.post("/v1/completions", json={"model": "demo", "prompt": script, **fields})


ApiFactory = Callable[..., Awaitable[Api]]


@asynccontextmanager
async def running_api(
    *,
    limits: RequestLimits | None = None,
    worker: WorkerLimits | None = None,
    principals: dict[str, PrincipalSettings] | None = None,
    load: str = "ok",
    preload: bool = True,
    capture: CaptureSink | None = None,
    specs: Sequence[ServedModel] | None = None,
    aliases: Mapping[str, AliasSpec] | None = None,
    dial: Dial = lambda replica: ReplicaAccess,
    provenance: Provenance = NO_PROVENANCE,
    command: Sequence[str] | None = None,
    responses: ResponseStore | None = None,
    tracing: Tracing | None = None,
) -> AsyncIterator[Api]:
    spec = ModelSpec(
        id="demo", path="/nowhere.gguf", aliases=("gpt-x",), preload=preload, sampling=SamplingParams(temperature=0)
    )
    limits = limits or RequestLimits()
    launcher = SpawnLauncher(command) if command is not None else ForkingLauncher(load)
    file = ModelsFile(models=tuple(specs or [spec]), aliases=dict(aliases or {}))
    means = Means(launcher, worker or WorkerLimits(), dial=dial, provenance=provenance)
    router = Router(file, limits, means)
    records: list[RequestRecord] = []
    door = OneKey(principals or {})
    app = build_app(
        *(router, lambda: limits, PrincipalLimits(), utc_now, door, records.append),
        capture,
        lambda: SEED,
        responses,
        tracing,
        parting=(parting := Parting()),
    )
    runner = ApiRunner(app, keepalive_seconds=30)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    router.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with owning_session(url, headers={"Authorization": "Bearer good"}) as session:
            yield Api(url, session, router, door, parting, runner, records)
    finally:
        await router.close(0)
        await runner.cleanup()


@pytest.fixture(scope="package", autouse=True)
def few_authorities(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A client reads whom the system trusts when it is made, which takes longer than most tests: here it is one."""
    path = tmp_path_factory.mktemp("authorities") / "ca.crt"
    path.write_bytes(own_ca("Tests").certificate.public_bytes(Encoding.PEM))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(path))
        yield


@pytest.fixture
async def start_api() -> AsyncIterator[ApiFactory]:
    async with AsyncExitStack() as stack:

        async def start(**options: object) -> Api:
            return await stack.enter_async_context(running_api(**options))  # type: ignore[arg-type]

        yield start


@pytest.fixture
async def api(start_api: ApiFactory) -> Api:
    return await start_api()


def sse(text: str) -> list[dict[str, object] | str]:
    """The blocks of an SSE body as Dify's plugin reads them: split on LF LF, comments dropped."""
    assert "\r" not in text
    blocks = [block for block in text.split("\n\n") if block and not block.startswith(":")]
    assert all(block.startswith("data: ") and "\n" not in block for block in blocks), blocks
    data = [block.removeprefix("data: ") for block in blocks]
    return [item if item == "[DONE]" else msgspec.json.decode(item) for item in data]


async def heard(answer: aiohttp.ClientResponse, piece: bytes, count: int = 1) -> bytes:
    """The body as far as it has come when the piece was in it so often."""
    body = b""
    while body.count(piece) < count:
        more = await answer.content.readany()
        assert more, body
        body += more
    return body
