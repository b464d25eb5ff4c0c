"""API keys through the whole stack: every refusal, and none that tells the client more than it should know."""

from __future__ import annotations

import pytest

from appliance.security.api_keys import ApiKey
from appliance.security.refusal import INCORRECT_KEY
from tests.security.site import Site


def key_of(site: Site, client: str = "demo") -> ApiKey:
    key = ApiKey.parse(site.bearer(client).removeprefix("Bearer "))
    assert key is not None
    return key


async def test_every_wrong_key_gets_the_same_answer(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    key, text = key_of(site), site.bearer()
    wrong = [
        text[:-1] + ("A" if text[-1] != "A" else "B"),
        f"Bearer {ApiKey('sk', key.kid, ApiKey.generate().secret).reveal()}",
        f"Bearer {ApiKey.generate().reveal()}",
        f"Bearer {ApiKey('adm', key.kid, key.secret).reveal()}",
    ]
    answers = [await site.ask(None, authorization) for authorization in wrong]
    assert {(answer.status, *answer.body.values()) for answer in answers} == {(401, "invalid_api_key", INCORRECT_KEY)}
    assert caplog.messages == ["127.0.0.1 (client demo) sent an API key that is mistyped or cut short"]
    assert key.secret not in caplog.text


async def test_no_key(site: Site) -> None:
    async with site.connect(site.tls()) as connection:
        for authorization in ([], [""], ["Bearer"], ["Basic eDp5"]):
            answer = await connection.ask(authorization)
            assert (answer.status, answer.body["code"]) == (401, "missing_api_key")
        assert (await connection.ask([site.bearer()])).status == 200


async def test_a_key_in_the_query_or_another_header_does_not_count(site: Site) -> None:
    text = site.bearer().removeprefix("Bearer ")
    async with site.connect(site.tls()) as connection:
        answer = await connection.ask([], f"/?api_key={text}&access_token={text}")
        assert answer.body["code"] == "missing_api_key"


async def test_another_principals_key(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    await site.add_client("bob")
    nonsense = await site.ask(site.tls("demo"), "Bearer nonsense")
    caplog.clear()
    answer = await site.ask(site.tls("demo"), site.bearer("bob"))
    assert (answer.status, answer.body["code"]) == (401, "invalid_api_key")
    assert answer.body == nonsense.body, "whoever found a key does not learn that it is a real one"
    assert caplog.messages == [f"127.0.0.1 (client demo) sent the API key {key_of(site, 'bob').kid} of client bob"]


async def test_two_authorization_headers(site: Site) -> None:
    answer = await site.ask(None, site.bearer(), site.bearer())
    assert (answer.status, answer.body["code"]) == (400, "invalid_request")
