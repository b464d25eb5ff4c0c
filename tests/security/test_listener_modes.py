"""What a client must show depends on the listener: certificate and key, the certificate, or a key or token."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import aiohttp
import pytest

from appliance.security.refusal import INCORRECT_KEY
from tests.e2e.appliance_process import Appliance
from tests.ports import free_port
from tests.security.daemons import (
    add_client,
    admin_of,
    ask,
    caller,
    listening_ports,
    record,
    refusal,
    scripted_appliance,
    status,
    token_for,
    trust_issuer,
)
from tests.security.tokens import claims, private_key, token

pytestmark = pytest.mark.slow


@dataclass(frozen=True, slots=True)
class Listeners:
    """One appliance that listens in every mode at once."""

    appliance: Appliance
    cert: str
    key: str

    @property
    def both(self) -> str:
        return self.appliance.url


@pytest.fixture(scope="module")
def listeners(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listeners]:
    folder = tmp_path_factory.mktemp("modes") / "a"
    cert, key = free_port(), free_port()
    config = trust_issuer(folder) + (
        "listeners:\n"
        "  api: {}\n"
        f"  machines: {{port: {cert}, mode: cert}}\n"
        f"  people: {{port: {key}, mode: key, allow: [127.0.0.1]}}\n"
        "principals: {demo: {requests_per_minute: 100000}, app: {models: [m]}}\n"
    )
    with scripted_appliance(folder, config) as appliance:
        asyncio.run(add_client(appliance, "second"))
        yield Listeners(appliance, f"https://127.0.0.1:{cert}", f"https://127.0.0.1:{key}")


async def test_all_of_them_listen(listeners: Listeners) -> None:
    ports = {int(url.rpartition(":")[2]) for url in (listeners.both, listeners.cert, listeners.key)}
    assert listening_ports(listeners.appliance) == ports
    async with admin_of(listeners.appliance) as admin:
        assert set((await admin.get("/status"))["connections"]) == {"api", "machines", "people"}


async def test_certificate_and_key(listeners: Listeners) -> None:
    appliance = listeners.appliance
    async with caller(appliance) as good:
        assert await status(good) == 200
    async with caller(appliance, authorization="") as without:
        assert await refusal(without) == (401, "missing_api_key")
    async with caller(appliance, authorization=f"Bearer {appliance.key('second')}") as mixed:
        assert await refusal(mixed) == (401, "invalid_api_key")
    async with caller(appliance, None, authorization=f"Bearer {appliance.key()}") as bare:
        with pytest.raises(aiohttp.ClientError):
            await status(bare)


async def test_certificate_alone(listeners: Listeners) -> None:
    """An Authorization header is not looked at, whatever it holds: the certificate says who this is."""
    appliance = listeners.appliance
    for authorization in ("", "Bearer nonsense", f"Bearer {appliance.key('second')}", "Basic eDp5"):
        async with (
            caller(appliance, url=listeners.cert, authorization=authorization) as session,
            ask(session) as answer,
        ):
            assert answer.status == 200
            # The limit is that of the certificate's principal.
            assert answer.headers["x-ratelimit-limit-requests"] == "100000"
    async with caller(appliance, None, url=listeners.cert, authorization=f"Bearer {appliance.key()}") as bare:
        with pytest.raises(aiohttp.ClientError):
            await status(bare)
    told = await record(appliance, "api.request", "ok")
    assert told.actor.principal == "demo"


async def test_key_alone(listeners: Listeners) -> None:
    appliance = listeners.appliance
    key = f"Bearer {appliance.key('second')}"
    async with caller(appliance, None, url=listeners.key, authorization=key) as session:
        assert await status(session) == 200
    # A certificate is not asked for, so one that is there cannot say who this is.
    async with caller(appliance, "demo", url=listeners.key, authorization=key) as session:
        assert await status(session) == 200
    async with caller(appliance, "demo", url=listeners.key, authorization="") as session:
        assert await refusal(session) == (401, "missing_api_key")
    async with caller(appliance, None, url=listeners.key, authorization=key, source="127.0.0.2") as outside:
        with pytest.raises(aiohttp.ClientError):
            await status(outside)


async def test_tokens(listeners: Listeners) -> None:
    """Beside a certificate of the same principal, and alone."""
    appliance = listeners.appliance
    async with caller(appliance, authorization=token_for("demo", "a")) as session:
        assert await status(session) == 200
    async with caller(appliance, authorization=token_for("app", "b")) as mixed:
        assert await refusal(mixed) == (401, "invalid_api_key")
    async with caller(appliance, None, url=listeners.key, authorization=token_for("app", "c")) as session:
        assert await status(session) == 200
        assert await refusal(session, model="other") == (404, "model_not_found")


WRONG = {
    "expired": token_for("app", "d", seconds=-3600),
    "another audience": token_for("app", "e", aud="somebody-else"),
    "another issuer": token_for("app", "f", iss="https://elsewhere.example"),
    "valid for too long": token_for("app", "g", seconds=90_000),
    "no configured principal": token_for("stranger", "h"),
    "a client that is not configured": token_for("second", "i"),
    "another key": f"Bearer {token(private_key('EdDSA', 1), claims())}",
    "cut short": token_for("app", "j")[:-4],
}


@pytest.mark.parametrize("what", WRONG)
async def test_wrong_tokens(listeners: Listeners, what: str) -> None:
    """Every one gets the same answer."""
    authorization = WRONG[what]
    async with caller(listeners.appliance, None, url=listeners.key, authorization=authorization) as session:
        async with ask(session) as answer:
            assert answer.status == 401
            body = await answer.json()
        assert (body["error"]["code"], body["error"]["message"]) == (
            "invalid_api_key",
            INCORRECT_KEY,
        )


async def test_a_token_that_ends_while_its_connection_is_open(listeners: Listeners) -> None:
    """The leeway for clocks is a minute, so one that ended 55 s ago has five left."""
    authorization = token_for("app", "k", seconds=-55)
    async with caller(listeners.appliance, None, url=listeners.key, authorization=authorization) as session:
        assert await status(session) == 200
        await asyncio.sleep(5.1)
        assert await refusal(session) == (401, "invalid_api_key")
