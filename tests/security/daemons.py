"""The real daemon as a process with scripted models, its clients from several addresses, and its audit log."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import psutil

from appliance.admin_client import AdminClient
from appliance.audit.keys import VerificationKey
from appliance.audit.read import RecordFilter, tail
from appliance.audit.record import StoredRecord
from appliance.audit.segments import VERIFICATION_KEY
from appliance.audit.verify import Report, verify
from appliance.clock import utc_now
from appliance.keyring.file_kek import FileKek
from appliance.keyring.keyring import Keyring
from appliance.security.bundle_folder import write_bundle
from appliance.security.tls import client_context
from appliance.state_dir import StateDir
from tests.e2e.appliance_process import Appliance, running_appliance
from tests.security.tokens import AUDIENCE, ISSUER, KeyFolder, claims, private_key, public_pem, token
from tests.waiting import WAIT_SECONDS_MAX

# How long a revoked client may still read: milliseconds, but where the machine stands still. Shorter than ENDLESS.
CUT_SECONDS_MAX = 30.0
# What they say is in the prompt: tests/fakes/scripted_worker.py.
MODELS = "models:\n  - {id: m, path: none.gguf, preload: true}\n  - {id: other, path: none.gguf, aliases: [o]}\n"
# A stream that lasts longer than any test looks at it.
ENDLESS = " ".join(["say:x sleep:0.02"] * 3000)


@contextmanager
def scripted_appliance(folder: Path, config: str = "") -> Iterator[Appliance]:
    """`appliance serve` in `folder`, for the first time or again."""
    folder.mkdir(exist_ok=True)
    (folder / "models.yaml").write_text(MODELS)
    with running_appliance(
        folder, "--models", folder / "models.yaml", config=config, program="tests.fakes.scripted_appliance"
    ) as appliance:
        yield appliance


def admin_of(appliance: Appliance) -> AdminClient:
    """As the command line reaches it."""
    return AdminClient.local(appliance.state / "run" / "admin.sock")


async def add_client(appliance: Appliance, name: str) -> None:
    """One more client, its bundle where the demo's is."""
    async with admin_of(appliance) as admin:
        answer = await admin.post("/clients", {"name": name})
    write_files(appliance.bundle(name), answer)


def write_files(folder: Path, answer: Any) -> None:
    """The files of an answer as a bundle."""
    write_bundle(folder, {file: text.encode() for file, text in answer["files"].items()})


def tls_of(appliance: Appliance, client: str | None) -> ssl.SSLContext:
    """A client's context; without a client it shows no certificate."""
    if client is not None:
        return client_context(appliance.bundle(client))
    return ssl.create_default_context(cafile=str(appliance.bundle("demo") / "ca.crt"))


@asynccontextmanager
async def caller(
    appliance: Appliance,
    client: str | None = "demo",
    *,
    source: str = "127.0.0.1",
    url: str | None = None,
    authorization: str | None = None,
) -> AsyncIterator[aiohttp.ClientSession]:
    """A session that keeps its connections, however long the next request takes to come.

    authorization: default the client's API key; empty for none.
    """
    if authorization is None:
        authorization = f"Bearer {appliance.key(client)}" if client else ""
    connector = aiohttp.TCPConnector(
        ssl=tls_of(appliance, client), limit=0, local_addr=(source, 0), keepalive_timeout=WAIT_SECONDS_MAX
    )
    async with aiohttp.ClientSession(
        url or appliance.url,
        headers={"Authorization": authorization} if authorization else {},
        connector=connector,
        connector_owner=False,
    ) as session:
        try:
            yield session
        finally:
            # Without a farewell, for which the end of a test would not wait.
            await connector.close(abort_ssl=True)
            await asyncio.sleep(0)


def ask(session: aiohttp.ClientSession, script: str = "say:x", model: str = "m", **fields: Any) -> Any:
    """One completion; `script` is what the model does."""
    return session.post("/v1/completions", json={"model": model, "prompt": script, **fields})


async def status(session: aiohttp.ClientSession, script: str = "say:x", model: str = "m", **fields: Any) -> int:
    """The status of one completion that is not streamed."""
    async with ask(session, script, model, **fields) as answer:
        await answer.read()
        return int(answer.status)


async def refusal(session: aiohttp.ClientSession, script: str = "say:x", model: str = "m") -> tuple[int, str]:
    """Status and code of one that must fail."""
    async with ask(session, script, model) as answer:
        return answer.status, (await answer.json())["error"]["code"]


async def first_text(answer: aiohttp.ClientResponse) -> str:
    """Reads until a stream has begun; what was read."""
    read = ""
    while not read.rpartition("\n\n")[2].startswith("data: {"):
        read += (await answer.content.readline()).decode()
    return read


def text_of(sse: str) -> str:
    """What a stream said, up to its end; fails for one that was cut or ended with an error."""
    blocks = [block.removeprefix("data: ") for block in sse.split("\n\n") if block.startswith("data: ")]
    assert blocks[-1] == "[DONE]", sse[-300:]
    chunks = [msgspec.json.decode(block) for block in blocks[:-1]]
    return "".join(chunk["choices"][0]["text"] for chunk in chunks if chunk["choices"])


@asynccontextmanager
async def stream(session: aiohttp.ClientSession, script: str = ENDLESS) -> AsyncIterator[aiohttp.ClientResponse]:
    """A stream that has begun."""
    async with ask(session, script, stream=True) as answer:
        assert answer.status == 200, await answer.text()
        await first_text(answer)
        try:
            yield answer
        finally:
            if answer.connection is not None and answer.connection.transport is not None:
                answer.connection.transport.abort()


async def seconds_to_cut(answer: aiohttp.ClientResponse, since: float) -> float:
    """Reads until the stream is cut; how long after `since` that was. Fails where it ends well."""
    try:
        async with asyncio.timeout(CUT_SECONDS_MAX):
            while await answer.content.readany():
                pass
    except aiohttp.ClientError:
        return time.monotonic() - since
    raise AssertionError("the stream came to a good end")


def keyring_of(state: Path) -> Keyring:
    """The data keys of an appliance whose key-encryption key is a file."""
    secrets = state / "secrets"
    return Keyring.open(secrets / "keyring.json", FileKek.open(secrets, create=False), utc_now, create=False)


def audited(appliance: Appliance, action: str) -> list[StoredRecord]:
    """The newest records of an action, or of its first words, newest first."""
    folder = StateDir(appliance.state).audit
    return tail(folder, keyring_of(appliance.state).cipher("audit"), RecordFilter(action=action), 100_000)


async def record(appliance: Appliance, action: str, outcome: str) -> StoredRecord:
    """The newest record of an action with that outcome, which may be a moment away."""
    found: list[StoredRecord] = []

    async def there() -> bool:
        nonlocal found
        found = [one for one in audited(appliance, action) if one.outcome == outcome]
        return bool(found)

    await until(there)
    return found[0]


async def until(reached: Callable[[], Awaitable[bool]]) -> None:
    """Returns as soon as it is reached; fails where it never is."""
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not await reached():
        assert time.monotonic() < deadline, f"not reached within {WAIT_SECONDS_MAX:.0f} s"
        await asyncio.sleep(0.01)


def verified(state: Path, k0: VerificationKey | None = None) -> Report:
    """The audit log of an appliance with every check that can be made; fails where it was tampered with."""
    folder = StateDir(state).audit
    if k0 is None and (folder / VERIFICATION_KEY).exists():
        k0 = VerificationKey.decode((folder / VERIFICATION_KEY).read_bytes())
    report = verify(folder, cipher=keyring_of(state).cipher("audit"), k0=k0)
    assert report.result != "tampered", report.findings
    return report


def trust_issuer(folder: Path) -> str:
    """Puts an issuer's public key beside appliance.yaml; the part of it that trusts the issuer."""
    folder.mkdir(exist_ok=True)
    KeyFolder(folder).write("sso.pem", public_pem(private_key("EdDSA")))
    return f"jwt: [{{issuer: {ISSUER}, audience: {AUDIENCE}, keys: [sso.pem], algorithms: [EdDSA]}}]\n"


def token_for(principal: str, token_id: str, *, seconds: int = 600, **changed: Any) -> str:
    """The Authorization header with a token of that issuer, valid for `seconds` from now."""
    now = int(time.time())
    times = {"iat": now - 10, "nbf": now - 10, "exp": now + seconds}
    return f"Bearer {token(private_key('EdDSA'), claims(**times, sub=principal, jti=token_id, **changed))}"


def listening_ports(appliance: Appliance) -> set[int]:
    """Where the daemon listens on TCP."""
    connections = psutil.Process(appliance.process.pid).net_connections(kind="tcp")
    return {one.laddr.port for one in connections if one.status == psutil.CONN_LISTEN}
