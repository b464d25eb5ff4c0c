"""`store: true`: what is found again by whom, what goes on from it, and what happens when the disk fails."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from appliance.access_config import Responses
from tests.api.conftest import Api, ApiFactory
from tests.unit.responses.making import Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


async def started(start_api: ApiFactory, site: Site, settings: Responses | None = None) -> Api:
    return await start_api(responses=site.store(settings or Responses()))


def client_of(api: Api, key: str = "good") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{api.url}/v1", api_key=key, max_retries=0, _strict_response_validation=True)


@pytest.fixture
async def api(start_api: ApiFactory, site: Site) -> Api:
    return await started(start_api, site)


@pytest.fixture
async def client(api: Api) -> AsyncIterator[openai.AsyncOpenAI]:
    async with client_of(api) as made:
        yield made


async def test_nothing_is_kept_unless_it_is_asked_for(client: openai.AsyncOpenAI, site: Site) -> None:
    response = await client.responses.create(model="demo", input="started say:x")
    with pytest.raises(openai.NotFoundError) as missing:
        await client.responses.retrieve(response.id)
    assert missing.value.code == "response_not_found"
    assert not site.folder.exists()


async def test_keeping_finding_and_forgetting(client: openai.AsyncOpenAI, api: Api) -> None:
    response = await client.responses.create(model="demo", input="started say:x", store=True, metadata={"a": "b"})
    assert await client.responses.retrieve(response.id) == response
    items = await client.responses.input_items.list(response.id)
    assert [item.to_dict()["content"] for item in items.data] == [[{"type": "input_text", "text": "started say:x"}]]
    async with client_of(api, "other") as other:
        for call in (other.responses.retrieve, other.responses.delete, other.responses.cancel):
            with pytest.raises(openai.NotFoundError):
                await call(response.id)
        with pytest.raises(openai.NotFoundError) as missing:
            await other.responses.create(model="demo", input="x", previous_response_id=response.id)
        assert missing.value.param == "previous_response_id"
    with pytest.raises(openai.BadRequestError, match="background"):
        await client.responses.cancel(response.id)
    await client.responses.delete(response.id)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(response.id)


async def test_a_stream_is_kept_before_it_ends(client: openai.AsyncOpenAI) -> None:
    async with client.responses.stream(model="demo", input="started say:x", store=True) as stream:
        async for event in stream:
            if event.type == "response.completed":
                kept = await client.responses.retrieve(event.response.id)
                assert kept.output_text == "x"
                assert kept.to_dict() == {**event.response.to_dict(), "output": kept.to_dict()["output"]}
                return
    raise AssertionError("it never completed")


async def test_going_on(client: openai.AsyncOpenAI) -> None:
    first = await client.responses.create(
        model="demo", input=[{"role": "user", "content": "started say:one"}], instructions="Once.", store=True
    )
    second = await client.responses.create(
        model="demo", input="started say:two", previous_response_id=first.id, instructions="Twice.", store=True
    )
    await client.responses.delete(first.id)
    third = await client.responses.create(model="demo", input="prompt", previous_response_id=second.id)
    told = json.loads(third.output_text)["messages"]
    assert [(turn["role"], turn["content"]) for turn in told] == [
        ("user", "started say:one"),
        ("assistant", "one"),
        ("user", "started say:two"),
        ("assistant", "two"),
        ("user", "prompt"),
    ]
    assert third.previous_response_id == second.id
    page = await client.responses.input_items.list(second.id, order="asc", limit=2)
    assert [item.type for item in page.data] == ["message", "message"]
    assert page.has_more
    everything = [item async for item in client.responses.input_items.list(second.id, order="asc", limit=1)]
    assert [item.to_dict()["role"] for item in everything] == ["user", "assistant", "user"]
    newest = await client.responses.input_items.list(second.id, limit=1)
    assert newest.data[0].id == everything[-1].id


async def test_calls_go_on(client: openai.AsyncOpenAI) -> None:
    tools: Any = [{"type": "function", "name": "now", "parameters": {"type": "object"}}]
    prompt = (
        "read:hermes,think write:%3Cthink%3Ehm%3C/think%3E%3Ctool_call%3E%7B%22name%22:%22now%22%7D%3C/tool_call%3E"
    )
    first = await client.responses.create(model="demo", input=prompt, tools=tools, store=True)
    call = first.output[-1]
    assert call.type == "function_call"
    second = await client.responses.create(
        model="demo",
        input=[
            {"type": "function_call_output", "call_id": call.call_id, "output": "noon"},
            {"role": "user", "content": "prompt"},
        ],
        previous_response_id=first.id,
    )
    told = json.loads(second.output_text)["messages"]
    assert [turn["role"] for turn in told] == ["user", "assistant", "tool", "user"]
    assert (told[1]["reasoning_content"], told[1]["tool_calls"][0]["id"]) == ("hm", call.call_id)


async def test_where_nothing_is_kept(start_api: ApiFactory, site: Site) -> None:
    for settings in (Responses(enabled=False), None):
        api = await started(start_api, site, settings) if settings else await start_api()
        answer = await api.session.post("/v1/responses", json={"model": "demo", "input": "x", "store": True})
        error = (await answer.json())["error"]
        assert (answer.status, error["code"], error["param"]) == (400, "unsupported_parameter", "store")


async def test_bounds(start_api: ApiFactory, site: Site) -> None:
    api = await started(start_api, site, Responses(bytes_max=1024))
    body = {"model": "demo", "input": "started say:x " + "y" * 1024, "store": True}
    answer = await api.session.post("/v1/responses", json=body)
    assert (answer.status, (await answer.json())["error"]["param"]) == (400, "store")
    assert (await api.session.post("/v1/responses", json={**body, "store": False})).status == 200
    site.room = False
    answer = await api.session.post("/v1/responses", json={**body, "input": "started say:x"})
    assert (answer.status, (await answer.json())["error"]["code"]) == (503, "store_unavailable")


async def test_a_disk_that_fails(api: Api, client: openai.AsyncOpenAI, site: Site) -> None:
    site.folder.write_text("in the way")
    with pytest.raises(openai.InternalServerError) as failed:
        await client.responses.create(model="demo", input="started say:x", store=True)
    assert failed.value.code == "store_unavailable"
    stream = await client.responses.create(model="demo", input="started say:x", store=True, stream=True)
    events = [event async for event in stream]
    assert [event.type for event in events[-3:]] == ["response.output_item.done", "error", "response.failed"]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].type == "response.failed"
    assert events[-1].response.output_text == "x"
    assert api.records[-1].error_code == "store_unavailable"


async def test_a_damaged_one(client: openai.AsyncOpenAI, site: Site) -> None:
    response = await client.responses.create(model="demo", input="started say:x", store=True)
    site.files()[0].write_bytes(b"damaged")
    with pytest.raises(openai.InternalServerError, match="damaged"):
        await client.responses.retrieve(response.id)
    with pytest.raises(openai.InternalServerError, match="damaged"):
        await client.responses.create(model="demo", input="x", previous_response_id=response.id)
    await client.responses.delete(response.id)


@pytest.mark.parametrize(
    ("query", "param"), [("limit=0", "limit"), ("limit=x", "limit"), ("order=up", "order"), ("after=x", "after")]
)
async def test_a_page_that_is_none(api: Api, query: str, param: str) -> None:
    body = {"model": "demo", "input": "started say:x", "store": True}
    made = (await (await api.session.post("/v1/responses", json=body)).json())["id"]
    answer = await api.session.get(f"/v1/responses/{made}/input_items?{query}")
    assert (answer.status, (await answer.json())["error"]["param"]) == (400, param)
    assert (await api.session.get(f"/v1/responses/{made}?stream=true")).status == 400
