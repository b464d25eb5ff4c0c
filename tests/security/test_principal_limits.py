"""What a principal may use, by the API: rates, tokens, requests at once, models and roles; nobody else feels it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.e2e.appliance_process import Appliance
from tests.security.daemons import (
    add_client,
    ask,
    caller,
    refusal,
    scripted_appliance,
    status,
    stream,
    text_of,
    until,
)

pytestmark = pytest.mark.slow

# A completion of a scripted model counts 7 prompt tokens and one for each `say`.
CONFIG = """\
principals:
  rate: {requests_per_minute: 3}
  few: {concurrent_max: 2}
  tokens: {tokens_per_minute: 300}
  day: {tokens_per_day: 600}
  narrow: {models: [o]}
  viewer: {role: viewer}
"""
NAMES = ("rate", "few", "tokens", "day", "narrow", "viewer")


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    with scripted_appliance(tmp_path_factory.mktemp("limits") / "a", CONFIG) as appliance:
        for name in NAMES:
            asyncio.run(add_client(appliance, name))
        yield appliance


async def refused_for_rate(session: aiohttp.ClientSession) -> dict[str, str]:
    """The headers of a 429."""
    async with ask(session) as answer:
        body = await answer.json()
        assert (answer.status, body["error"]["code"]) == (429, "too_many_requests"), body
        assert body["error"]["type"] == "rate_limit_error"
        return {name.lower(): value for name, value in answer.headers.items()}


async def test_requests_per_minute(limited: Appliance) -> None:
    async with caller(limited, "rate") as session, caller(limited) as other:
        for left in (2, 1, 0):
            async with ask(session) as answer:
                assert answer.status == 200
                assert answer.headers["x-ratelimit-limit-requests"] == "3"
                assert answer.headers["x-ratelimit-remaining-requests"] == str(left)
                assert answer.headers["x-ratelimit-reset-requests"]
        headers = await refused_for_rate(session)
        assert 1 <= int(headers["retry-after"]) <= 20
        assert headers["x-ratelimit-remaining-requests"] == "0"
        assert await status(other) == 200
        async with ask(other) as answer:
            assert not [name for name in answer.headers if name.lower().startswith("x-ratelimit")]


async def test_requests_at_once(limited: Appliance) -> None:
    """A stream counts until its end, or until its client has gone."""
    async with (
        caller(limited, "few") as session,
        caller(limited) as other,
        stream(session) as first,
        stream(session),
    ):
        headers = await refused_for_rate(session)
        assert int(headers["retry-after"]) >= 1
        assert await status(other) == 200
        first.close()

        async def admitted() -> bool:
            return await status(session) == 200

        await until(admitted)


async def test_tokens_per_minute(limited: Appliance) -> None:
    """Reserved by an estimate when a request begins, settled by what it used when it ends."""
    async with caller(limited, "tokens") as session, caller(limited) as other:
        script = " ".join(["say:x"] * 400)
        async with ask(session, script, max_tokens=10) as answer:
            assert (await answer.json())["usage"]["total_tokens"] == 407
            assert answer.headers["x-ratelimit-limit-tokens"] == "300"
            assert answer.headers["x-ratelimit-remaining-tokens"] == "0"
        headers = await refused_for_rate(session)
        assert int(headers["retry-after"]) > 10
        assert await status(other) == 200


async def test_tokens_per_day_survive_a_restart(tmp_path: Path) -> None:
    with scripted_appliance(tmp_path / "a", CONFIG) as appliance:
        await add_client(appliance, "day")
        async with caller(appliance, "day") as session:
            async with ask(session, " ".join(["say:x"] * 700), max_tokens=1, stream=True) as answer:
                assert len(text_of(await answer.text())) == 700
            await refused_for_rate(session)
    with scripted_appliance(tmp_path / "a", CONFIG) as appliance:
        async with caller(appliance, "day") as session, caller(appliance) as other:
            headers = await refused_for_rate(session)
            assert int(headers["retry-after"]) >= 1
            assert await status(other) == 200


async def test_models(limited: Appliance) -> None:
    """What it may not use is not there for it, not even its name."""
    async with caller(limited, "narrow") as session, caller(limited) as other:
        assert await status(session, model="o") == 200
        assert await status(session, model="other") == 200
        assert await refusal(session, model="m") == (404, "model_not_found")
        assert await refusal(session, model="none") == (404, "model_not_found")
        async with ask(session, model="m") as answer, ask(session, model="none") as unknown:
            # The same words for what is hidden and for what does not exist.
            assert (await answer.text()).replace("'m'", "'none'") == await unknown.text()
        async with session.get("/v1/models") as answer:
            assert [model["id"] for model in (await answer.json())["data"]] == ["other"]
        async with session.get("/v1/models/m") as answer:
            assert answer.status == 404
        async with other.get("/v1/models") as answer:
            assert [model["id"] for model in (await answer.json())["data"]] == ["m", "other"]


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/v1/models", 200),
        ("GET", "/models", 200),
        ("GET", "/v1/models/m", 200),
        ("POST", "/v1/chat/completions", 403),
        ("POST", "/chat/completions", 403),
        ("POST", "/v1/completions", 403),
        ("POST", "/completions", 403),
        ("GET", "/readyz", 200),
        ("GET", "/v1/none", 404),
        ("DELETE", "/v1/models/m", 405),
        ("GET", "/admin/v1/whoami", 404),
    ],
)
async def test_a_viewer(limited: Appliance, method: str, path: str, expected: int) -> None:
    async with (
        caller(limited, "viewer") as session,
        session.request(method, path, json={} if method == "POST" else None) as answer,
    ):
        assert answer.status == expected
        if expected == 403:
            assert (await answer.json())["error"]["code"] == "role_not_allowed"
