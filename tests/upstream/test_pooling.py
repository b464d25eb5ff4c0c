"""Vectors and scores of another server."""

from __future__ import annotations

import pytest

from appliance.config import RequestLimits
from tests.upstream.conftest import Serve
from tests.waiting import until

CALLS = [
    ("embeddings", {"input": "a"}, "data"),
    ("rerank", {"query": "a", "documents": ["b"], "top_n": 1}, "results"),
]


@pytest.mark.parametrize(("path", "fields", "found"), CALLS)
async def test_they_come_back_as_they_are_with_our_name(
    serve: Serve, path: str, fields: dict[str, object], found: str
) -> None:
    api, (server,) = await serve()
    body = {"model": "gpt-x", **fields, "input_type": "query", "stream": True, "priority": 3}
    async with api.session.post(f"/v1/{path}", json=body) as answer:
        said = await answer.json()
    assert (said["model"], said["from"], said[found]) == ("demo", "s0", [{"index": 0}])
    _, sent = server.requests[0]
    assert sent.pop("cache_salt")
    assert sent == {"model": "theirs", **fields, "input_type": "query"}
    (record,) = api.records
    assert (record.outcome, record.prompt_tokens, record.completion_tokens) == ("ok", 11, 0)


@pytest.mark.parametrize(("path", "fields", "found"), CALLS)
async def test_what_is_no_answer_is_no_answer(serve: Serve, path: str, fields: dict[str, object], found: str) -> None:
    api, _ = await serve()
    name = "input" if path == "embeddings" else "query"
    for script, status in (("garbage", 503), ("error", 503), ("status:400", 400), ("cut", 503)):
        async with api.session.post(f"/v1/{path}", json={"model": "demo", **fields, name: script}) as answer:
            assert answer.status == status, script


@pytest.mark.parametrize(("path", "fields", "found"), CALLS)
async def test_a_probe_asks_for_what_clients_ask_for(
    serve: Serve, path: str, fields: dict[str, object], found: str
) -> None:
    api, (server,) = await serve(limits=RequestLimits(breaker_failures=1, breaker_seconds=0.05))
    name = "input" if path == "embeddings" else "query"
    async with api.session.post(f"/v1/{path}", json={"model": "demo", **fields, name: "error"}) as answer:
        assert answer.status == 503
    await until(lambda: not api.router.failing())
    assert server.requests[-1][1][name] == "1"
