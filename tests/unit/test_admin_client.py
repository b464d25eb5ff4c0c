"""The admin API's client: what people type stays what they typed, and every failure is a sentence."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from appliance import admin_client
from appliance.admin_client import AdminClient, AdminError, route
from appliance.errors import ConfigError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def serving(path: Path, handler: Handler) -> AsyncIterator[AdminClient]:
    """A client of a server that does what a test says."""
    app = web.Application()
    app.router.add_route("*", "/admin/v1/{first}", handler)
    app.router.add_route("*", "/admin/v1/{first}/{second}", handler)
    app.router.add_route("*", "/admin/v1/{first}/{second}/{third}", handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.UnixSite(runner, str(path)).start()
    async with AdminClient.local(path) as client:
        yield client
    await runner.cleanup()


def answered(body: object, status: int = 200, etag: str = '"7"') -> web.Response:
    return web.json_response(body, status=status, headers={"ETag": etag})


async def refused(work: Awaitable[Any]) -> AdminError:
    with pytest.raises(AdminError) as caught:
        await work
    return caught.value


def test_a_route_quotes_what_a_person_typed() -> None:
    assert route("keys", "4fTq0Zk2LmNp", "rotate") == "/keys/4fTq0Zk2LmNp/rotate"
    assert route("keys", "a/../b", "rotate") == "/keys/a%2F..%2Fb/rotate"
    assert route("keys", "x?plan=true#y") == "/keys/x%3Fplan%3Dtrue%23y"
    assert route("keys", "ü %41\n") == "/keys/%C3%BC%20%2541%0A"


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_what_would_be_another_route_is_no_name(name: str) -> None:
    with pytest.raises(AdminError, match="no name or id"):
        route("keys", name, "rotate")


NAMES = ["..%2F..%2Fstatus", "%2e%2e", "a/b", "...", "x?y=1", "#", "%", "a b", "\n", "ключ", "a;b", ":", "@", "+"]


async def test_every_name_arrives_as_it_was_typed(tmp_path: Path) -> None:
    async def echo(http: web.Request) -> web.StreamResponse:
        return answered([http.match_info["first"], http.match_info.get("second"), http.query_string])

    async with serving(tmp_path / "s", echo) as client:
        for name in NAMES:
            assert await client.get(route("keys", name)) == ["keys", name, ""], name
            assert await client.post(route("keys", name), plan=True) == ["keys", name, "plan=true"], name
        assert await client.get("/keys", principal="a&b=c", nothing=None) == ["keys", None, "principal=a%26b%3Dc"]


@given(st.text("./\\%?#&;:@ aü\n\x00", min_size=1, max_size=20).filter(lambda text: text not in (".", "..")))
def test_a_quoted_name_is_one_segment(name: str) -> None:
    assert route("a", name, "b").count("/") == 3


async def test_what_a_post_carries(tmp_path: Path) -> None:
    seen: list[web.Request] = []

    async def note(http: web.Request) -> web.StreamResponse:
        seen.append(http)
        return answered({"body": await http.json()})

    async with serving(tmp_path / "s", note) as client:
        assert await client.post("/keys", {"a": 1}, generation=3, approval="ab12") == {"body": {"a": 1}}
        assert client.generation == 7
        await client.post("/keys")
        await client.post("/keys", idempotency_key="mine")
    first, second, third = seen
    assert (first.headers["If-Match"], first.headers["Approval"]) == ('"3"', "ab12")
    assert not {"If-Match", "Approval"} & set(second.headers)
    assert first.headers["Idempotency-Key"] != second.headers["Idempotency-Key"]
    assert third.headers["Idempotency-Key"] == "mine"


async def test_a_refusal_keeps_code_and_sentence(tmp_path: Path) -> None:
    async def refuse(http: web.Request) -> web.StreamResponse:
        return answered({"error": {"code": "conflict", "message": "not now"}}, 409)

    async with serving(tmp_path / "s", refuse) as client:
        error = await refused(client.get("/x"))
        assert (error.code, str(error)) == ("conflict", "not now")


@pytest.mark.parametrize(
    ("status", "body", "etag"),
    [
        (500, b"<html>no</html>", '"1"'),
        (404, b'{"error": "text"}', '"1"'),
        (404, b"\xff", '"1"'),
        (404, b"[]", '"1"'),
        (200, b"<html>hello</html>", '"1"'),
        (200, b"{}", ""),
        (200, b"{}", "weird"),
        (302, b"", '"1"'),
    ],
)
async def test_what_is_no_admin_api_is_an_error_too(tmp_path: Path, status: int, body: bytes, etag: str) -> None:
    async def strange(http: web.Request) -> web.StreamResponse:
        return web.Response(status=status, body=body, headers={"ETag": etag, "Location": "/admin/v1/x"})

    async with serving(tmp_path / "s", strange) as client:
        error = await refused(client.get("/x"))
        assert error.code == "failed"
        assert "no admin API" in str(error)


async def test_a_lost_answer_is_asked_for_again_with_the_same_key(tmp_path: Path) -> None:
    keys: list[str] = []

    async def lose(http: web.Request) -> web.StreamResponse:
        keys.append(http.headers["Idempotency-Key"])
        if len(keys) == 1:
            assert http.transport is not None
            http.transport.close()
        return answered({"done": len(keys)})

    async with serving(tmp_path / "s", lose) as client:
        assert await client.post("/x") == {"done": 2}
    assert len(keys) == 2
    assert len(set(keys)) == 1


async def test_a_connection_that_keeps_ending_is_an_error(tmp_path: Path) -> None:
    async def drop(http: web.Request) -> web.StreamResponse:
        assert http.transport is not None
        http.transport.close()
        return answered(None)

    async with serving(tmp_path / "s", drop) as client:
        for work in (client.get("/x"), client.post("/x")):
            error = await refused(work)
            assert error.code == "unreachable"


async def test_nobody_there(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path / ("long" * 50)):
        async with AdminClient.local(path) as client:
            error = await refused(client.get("/x"))
            assert error.code == "unreachable"
            assert "cannot be reached" in str(error)


async def test_an_answer_that_does_not_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_client, "TIMEOUT_SECONDS", 0.05)

    async def sleep(http: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.2)
        return answered(None)

    async with serving(tmp_path / "s", sleep) as client:
        error = await refused(client.post("/x"))
        assert error.code == "unreachable"
        assert "it may still do it" in str(error)


@pytest.mark.parametrize(
    "url", ["host:8444", "http://host:8444", "https://", "ftp://x", "https://h/path", "https://h:x"]
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="write https://llm"):
        AdminClient.remote(url, ssl.create_default_context())
