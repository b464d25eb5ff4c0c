"""POST /v1/embeddings."""

from __future__ import annotations

import asyncio
import base64
import struct
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import openai
import pytest
from msgspec.structs import replace

from appliance.access_config import PrincipalSettings
from appliance.alias_spec import AliasSpec, FallbackSpec
from appliance.api.embeddings import PIECE_BYTES, EmbeddingAnswer
from appliance.config import RequestLimits, WorkerLimits
from appliance.models.stream import Vectors
from appliance.types import ModelSpec, Usage
from appliance.wire import Pooled
from tests.api.conftest import Api, ApiFactory, heard
from tests.fakes.gate import Gate
from tests.waiting import until


async def embed(api: Api, given: object, path: str = "/v1/embeddings", **fields: Any) -> tuple[int, Any, Any]:
    async with api.session.post(path, json={"model": "demo", "input": given, **fields}) as answer:
        return answer.status, await answer.json(), answer.headers


async def test_vectors_come_in_the_order_of_their_inputs(api: Api) -> None:
    status, body, headers = await embed(api, ["a", "b", "c"], user="u", unknown=1)
    assert status == 200
    assert (body["object"], body["model"]) == ("list", "demo")
    assert [entry["embedding"] for entry in body["data"]] == [[0, 1, 0, 0], [1, 1, 0, 0], [2, 1, 0, 0]]
    assert [entry["index"] for entry in body["data"]] == [0, 1, 2]
    assert body["usage"] == {"prompt_tokens": 7, "total_tokens": 7}
    assert "truncated" not in body and "X-Appliance-Truncated" not in headers
    (record,) = api.records
    assert (record.outcome, record.path, record.prompt_tokens, record.completion_tokens) == (
        "ok",
        "/v1/embeddings",
        7,
        0,
    )


@pytest.mark.parametrize(
    ("given", "count"), [("a", 1), (["a"], 1), ([1, 2, 3], 1), ([[1, 2], [3]], 2), (["a", [1]], 2)]
)
async def test_texts_and_token_ids(api: Api, given: object, count: int) -> None:
    status, body, _ = await embed(api, given, path="/embeddings")
    assert status == 200 and len(body["data"]) == count


async def test_base64_is_little_endian_floats(api: Api) -> None:
    _, body, _ = await embed(api, ["a", "b"], encoding_format="base64")
    assert struct.unpack("<4f", base64.b64decode(body["data"][1]["embedding"])) == (1, 1, 0, 0)


async def test_what_was_cut_is_said_in_the_body_and_a_header(api: Api) -> None:
    _, body, headers = await embed(api, ["a", "b" * 200, "c" * 200])
    assert body["truncated"] == [1, 2]
    assert headers["X-Appliance-Truncated"] == "2"


@pytest.mark.parametrize(
    ("given", "fields", "param"),
    [
        ([], {}, "input"),
        ([1, "a"], {}, "input"),
        ([1, [2]], {}, "input"),
        (["a"] * 2049, {}, "input"),
        ([-1], {}, "input[0]"),
        (None, {}, "input"),
        ("a", {"encoding_format": "hex"}, "encoding_format"),
        ("a", {"dimensions": 0}, "dimensions"),
        ("a", {"truncate": "yes"}, "truncate"),
    ],
)
async def test_what_is_no_request_is_a_400_that_names_the_field(
    api: Api, given: object, fields: dict[str, Any], param: str
) -> None:
    status, body, _ = await embed(api, given, **fields)
    assert (status, body["error"]["code"], body["error"]["param"]) == (400, "invalid_request", param)


async def test_messages_in_the_place_of_texts_are_refused_with_what_to_do(api: Api) -> None:
    body = {"model": "demo", "messages": [{"role": "user", "content": "a"}]}
    async with api.session.post("/v1/embeddings", json=body) as answer:
        error = (await answer.json())["error"]
    assert (answer.status, error["param"]) == (400, "input")
    assert "images" in error["message"]


async def test_streams_and_choices_mean_nothing_here(api: Api) -> None:
    status, body, headers = await embed(api, "a", stream=True, n=3)
    assert status == 200 and len(body["data"]) == 1
    assert headers["Content-Type"].startswith("application/json")


async def test_a_crash_is_tried_once_more_and_what_had_come_is_forgotten(start_api: ApiFactory) -> None:
    # The script of the second try is the same one, so it crashes too; the third request finds a worker.
    api = await start_api(worker=WorkerLimits(backoff_seconds_max=0.1))
    status, body, _ = await embed(api, ["started some crash", "b"])
    assert (status, body["error"]["code"]) == (503, "engine_crash")
    assert api.records[0].attempts == 2
    status, body, _ = await embed(api, ["a"])
    assert status == 200 or body["error"]["code"] == "model_unavailable"


async def test_a_client_that_leaves_frees_the_engine(api: Api) -> None:
    leaving = asyncio.get_running_loop().create_task(embed(api, "hang"))
    await until(lambda: api.router.outstanding)
    leaving.cancel()
    await until(lambda: not api.router.outstanding and api.records)
    assert api.records[0].outcome == "client_gone"


async def test_white_space_keeps_a_client_waiting(start_api: ApiFactory, gate: Gate) -> None:
    api = await start_api(limits=RequestLimits(commit_pooling_seconds=0.05, ping_seconds=0.05))
    async with api.session.post("/v1/embeddings", json={"model": "demo", "input": gate.word}) as answer:
        assert not (await heard(answer, b" ", 2)).strip()
        gate.open()
        assert (await answer.json())["data"]


async def test_requests_wait_for_a_limit_of_their_client(start_api: ApiFactory) -> None:
    api = await start_api(principals={"tester": PrincipalSettings(concurrent_max=2)})
    answers = await asyncio.gather(*(embed(api, "sleep:0.02") for _ in range(20)))
    assert {status for status, _, _ in answers} == {200}
    refused = await api.chat("say:a sleep:0.1")
    await refused.read()


async def test_a_wait_that_cannot_help_is_refused_at_once(start_api: ApiFactory) -> None:
    api = await start_api(principals={"tester": PrincipalSettings(requests_per_minute=1)})
    assert (await embed(api, "a"))[0] == 200
    async with asyncio.timeout(30):
        status, body, headers = await embed(api, "a")
    assert (status, body["error"]["code"]) == (429, "too_many_requests")
    assert int(headers["Retry-After"]) > 40


async def test_nothing_steps_in_for_vectors(start_api: ApiFactory) -> None:
    aliases = {
        "vectors": AliasSpec(
            versions={"demo": 1, "other": 1e-9}, fallback=FallbackSpec(models=("small",), answer="no", repeats_mib=1)
        )
    }
    specs = [ModelSpec(id=name, path="/nowhere.gguf", preload=True) for name in ("demo", "other", "small")]
    api = await start_api(specs=specs, aliases=aliases)
    status, body, headers = await embed(api, "fail:internal_error", model="vectors")
    assert (status, body["error"]["code"]) == (500, "internal_error")
    assert "X-Appliance-Fallback" not in headers
    status, body, _ = await embed(api, "a", model="vectors")
    assert (status, body["model"]) == (200, "demo")


@pytest.fixture
async def client(api: Api) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{api.url}/v1", api_key="good", max_retries=0, _strict_response_validation=True
    ) as made:
        yield made


async def test_openai_s_client(client: openai.AsyncOpenAI) -> None:
    """It asks for base64 by default, which its own strict validation does not know."""
    answer = await client.with_options(_extra_kwargs={"_strict_response_validation": False}).embeddings.create(
        model="demo", input=["a", "b"]
    )
    assert answer.data[1].embedding == [1, 1, 0, 0]
    assert answer.usage.total_tokens == 7
    floats = await client.embeddings.create(model="demo", input="a", encoding_format="float", dimensions=4)
    assert floats.data[0].embedding == [0, 1, 0, 0]


async def test_openai_s_client_without_asyncio(api: Api) -> None:
    def ask() -> list[float]:
        with openai.OpenAI(base_url=f"{api.url}/v1", api_key="good", max_retries=0) as client:
            return client.embeddings.create(model="demo", input=["a", "b"]).data[1].embedding

    assert await asyncio.to_thread(ask) == [1, 1, 0, 0]


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/rerank"])
@pytest.mark.parametrize("bound", ["outstanding_per_principal_max", "queue_depth_max"])
async def test_more_at_once_than_there_is_room_for_wait_their_turn(
    start_api: ApiFactory, path: str, bound: str
) -> None:
    """As Dify sends them while it indexes; it never tries again."""
    api = await start_api(limits=replace(RequestLimits(), **{bound: 4}))

    async def one() -> int:
        script = "sleep:0.05"
        body = {"model": "demo", "input": script} | {"query": script, "documents": ["score:0.5"]}
        async with api.session.post(path, json=body) as answer:
            await answer.read()
            return answer.status

    assert await asyncio.gather(*(one() for _ in range(40))) == [200] * 40
    assert api.router.outstanding == 0


@pytest.mark.parametrize(
    ("bound", "status", "code"),
    [("outstanding_per_principal_max", 429, "too_many_requests"), ("queue_depth_max", 503, "queue_full")],
)
async def test_a_wait_for_room_has_an_end(
    start_api: ApiFactory, gate: Gate, bound: str, status: int, code: str
) -> None:
    api = await start_api(limits=replace(RequestLimits(limit_wait_seconds=0.2), **{bound: 1}))
    first = asyncio.get_running_loop().create_task(
        api.session.post("/v1/embeddings", json={"model": "demo", "input": gate.word})
    )
    await until(lambda: api.router.outstanding)
    refused = await api.session.post("/v1/embeddings", json={"model": "demo", "input": "a"})
    assert (refused.status, (await refused.json())["error"]["code"]) == (status, code)
    assert int(refused.headers["Retry-After"]) >= 1
    gate.open()
    assert (await first).status == 200


async def test_a_large_answer_is_written_in_pieces_and_nothing_is_lost(start_api: ApiFactory) -> None:
    """What is written between two looks of the loop at others is a few vectors."""
    vectors = tuple(
        Pooled(number=1, index=index, tokens=3, truncated=index == 5, values=struct.pack("<1024f", *[index] * 1024))
        for index in range(20)
    )
    answer = EmbeddingAnswer("m", {}, in_base64=False)
    answer.add(Vectors(pooled=vectors))
    pieces = list(answer.pieces(Usage(prompt_tokens=1, completion_tokens=0)))
    assert len(pieces) == 2 + 20 / (PIECE_BYTES / 4096)
    body = msgspec.json.decode(b"".join(pieces))
    assert [(entry["index"], entry["embedding"]) for entry in body["data"]] == [(n, [n] * 1024) for n in range(20)]
    assert (body["model"], body["truncated"], body["usage"]["prompt_tokens"]) == ("m", [5], 1)
    api = await start_api(limits=RequestLimits(commit_pooling_seconds=60))
    _, whole, headers = await embed(api, ["a"] * 2048)
    assert len(whole["data"]) == 2048 and "Content-Length" in headers
