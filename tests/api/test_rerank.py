"""POST /v1/rerank."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.alias_spec import AliasSpec, FallbackSpec
from appliance.types import ModelSpec, SamplingParams
from tests.api.conftest import Api, ApiFactory

DOCUMENTS = ["score:0.25", "score:0.75", "score:0.5"]


async def rerank(
    api: Api, documents: object = DOCUMENTS, path: str = "/v1/rerank", **fields: Any
) -> tuple[int, Any, Any]:
    body = {"model": "demo", "query": "which?", "documents": documents, **fields}
    async with api.session.post(path, json=body) as answer:
        return answer.status, await answer.json(), answer.headers


@pytest.mark.parametrize("path", ["/v1/rerank", "/rerank", "/v1/reranking", "/v2/rerank"])
async def test_the_most_relevant_comes_first(api: Api, path: str) -> None:
    status, body, _ = await rerank(api, path=path)
    assert status == 200
    assert body["results"] == [
        {"index": 1, "relevance_score": 0.75},
        {"index": 2, "relevance_score": 0.5},
        {"index": 0, "relevance_score": 0.25},
    ]
    assert body["usage"] == {"prompt_tokens": 7, "total_tokens": 7}
    assert body["model"] == "demo"


@pytest.mark.parametrize(("top_n", "indices"), [(1, [1]), (2, [1, 2]), (99, [1, 2, 0]), (None, [1, 2, 0])])
async def test_top_n(api: Api, top_n: int | None, indices: list[int]) -> None:
    _, body, _ = await rerank(api, top_n=top_n)
    assert [result["index"] for result in body["results"]] == indices


async def test_documents_come_back_where_they_are_asked_for(api: Api) -> None:
    _, body, _ = await rerank(api, ["score:0.25", {"text": "score:0.75", "id": 7}], return_documents=True)
    assert [result["document"] for result in body["results"]] == [{"text": "score:0.75"}, {"text": "score:0.25"}]


async def test_equals_keep_their_order(api: Api) -> None:
    _, body, _ = await rerank(api, ["score:0.5"] * 3)
    assert [result["index"] for result in body["results"]] == [0, 1, 2]


async def test_of_no_documents_none_is_relevant(api: Api) -> None:
    status, body, _ = await rerank(api, [])
    assert (status, body["results"], body["usage"]["total_tokens"]) == (200, [], 0)
    assert api.records[0].model == "demo"
    status, body, _ = await rerank(api, [], model="nowhere")
    assert (status, body["error"]["code"]) == (404, "model_not_found")


async def test_what_was_cut_is_said(api: Api) -> None:
    _, body, headers = await rerank(api, ["score:0.5", "score:0.25" + "0" * 100])
    assert (body["truncated"], headers["X-Appliance-Truncated"]) == ([1], "1")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"top_n": 0}, "top_n"),
        ({"top_n": -1}, "top_n"),
        ({"documents": ["a"] * 2049}, "documents"),
        ({"documents": [1]}, "documents[0]"),
        ({"documents": [{"title": "a"}]}, "documents[0].text"),
        ({"documents": None}, "documents"),
        ({"query": None}, "query"),
    ],
)
async def test_what_is_no_request_is_a_400_that_names_the_field(api: Api, fields: dict[str, Any], param: str) -> None:
    status, body, _ = await rerank(api, **fields)
    assert (status, body["error"]["code"], body["error"]["param"]) == (400, "invalid_request", param)


async def test_another_model_may_step_in_but_no_fixed_answer(start_api: ApiFactory) -> None:
    specs = [
        ModelSpec(id=name, path="/nowhere.gguf", preload=True, sampling=SamplingParams(seed=seed))
        for seed, name in enumerate(("demo", "small"))
    ]
    fallback = FallbackSpec(models=("small",), answer="no")
    api = await start_api(specs=specs, aliases={"ranks": AliasSpec(versions={"demo": 1}, fallback=fallback)})
    status, body, _ = await rerank(api, model="ranks", query="fail:internal_error")
    assert (status, body["error"]["code"]) == (500, "internal_error")
    assert api.records[0].failed_models == ("small",)
