"""The endpoints for vectors and scores with a real worker behind them."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
import pytest_asyncio

from appliance.types import ModelSpec
from tests.api.conftest import Api, running_api
from tests.models.pooled import PooledModel, bert_pair, bert_tokens, build_bert

WORKER = (sys.executable, "-m", "appliance.worker")
# The workers are shared: to start one takes longer than most tests.
pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]
TEXTS = [f"text number {number} of a small document" for number in range(40)]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, PooledModel]:
    folder = tmp_path_factory.mktemp("pooled")
    return {
        "vectors": build_bert(folder / "mean.gguf", "mean"),
        "ranks": build_bert(folder / "rank.gguf", "rank", seed=4),
    }


@asynccontextmanager
async def served(models: dict[str, PooledModel], recite_gguf: Path) -> AsyncIterator[Api]:
    paths = {name: model.path for name, model in models.items()} | {"chat": recite_gguf}
    specs = [ModelSpec(id=name, path=str(path), threads=1, threads_batch=1) for name, path in paths.items()]
    async with running_api(specs=specs, command=WORKER) as api:
        yield api


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(models: dict[str, PooledModel], recite_gguf: Path) -> AsyncIterator[Api]:
    async with served(models, recite_gguf) as api:
        yield api


async def post(api: Api, path: str, **body: Any) -> tuple[int, Any]:
    async with api.session.post(path, json=body) as answer:
        return answer.status, await answer.json()


async def test_forty_requests_at_once(api: Api, models: dict[str, PooledModel]) -> None:
    await post(api, "/v1/embeddings", model="vectors", input="loads it")
    before = api.router.snapshots()["vectors"].steps
    answers = await asyncio.gather(*(post(api, "/v1/embeddings", model="vectors", input=[text]) for text in TEXTS))
    for text, (status, body) in zip(TEXTS, answers, strict=True):
        assert status == 200
        vector = np.array(body["data"][0]["embedding"], np.float32)
        assert vector @ models["vectors"].vector(bert_tokens(text)) >= 0.999
        assert body["usage"]["prompt_tokens"] == len(bert_tokens(text))
    assert api.router.snapshots()["vectors"].steps - before < len(TEXTS)
    assert api.router.outstanding == 0


async def test_floats_base64_and_the_openai_client_agree(api: Api) -> None:
    _, floats = await post(api, "/v1/embeddings", model="vectors", input=TEXTS[:3])
    _, coded = await post(api, "/v1/embeddings", model="vectors", input=TEXTS[:3], encoding_format="base64")
    async with openai.AsyncOpenAI(base_url=f"{api.url}/v1", api_key="good", max_retries=0) as client:
        read = await client.embeddings.create(model="vectors", input=TEXTS[:3])
    for index in range(3):
        numbers = np.array(floats["data"][index]["embedding"], np.float32)
        decoded = np.frombuffer(base64.b64decode(coded["data"][index]["embedding"]), "<f4")
        assert (numbers == decoded).all()
        assert read.data[index].embedding == pytest.approx(numbers.tolist(), abs=1e-6)


async def test_a_worker_that_dies_in_the_middle_costs_no_answer(api: Api, models: dict[str, PooledModel]) -> None:
    await post(api, "/v1/embeddings", model="vectors", input="loads it")
    before = api.router.snapshots()["vectors"].steps
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        large = group.create_task(post(api, "/v1/embeddings", model="vectors", input=TEXTS * 50))
        while api.router.snapshots()["vectors"].steps == before:  # noqa: ASYNC110
            await asyncio.sleep(0.002)
        pid = api.router.snapshots()["vectors"].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    status, body = large.result()
    assert status == 200
    wanted = [models["vectors"].vector(bert_tokens(text)) for text in TEXTS]
    for index, entry in enumerate(body["data"]):
        assert np.array(entry["embedding"], np.float32) @ wanted[index % len(wanted)] >= 0.999
    assert api.records[-1].attempts == 2


async def test_what_a_text_is_to_a_model(api: Api) -> None:
    status, body = await post(api, "/v1/tokenize", model="vectors", prompt="ab cd", return_token_strs=True)
    assert (status, body["tokens"]) == (200, bert_tokens("ab cd"))
    _, body = await post(api, "/v1/detokenize", model="vectors", tokens=bert_tokens("ab cd"))
    assert body["content"] == "[CLS] ab cd[SEP]"


async def test_reranking(api: Api, models: dict[str, PooledModel]) -> None:
    status, body = await post(api, "/v1/rerank", model="ranks", query="small", documents=TEXTS[:5], top_n=3)
    assert status == 200
    logits = [float(models["ranks"].pooled(bert_pair("small", text))[0]) for text in TEXTS[:5]]
    wanted = sorted(((1 / (1 + np.exp(-logit)), index) for index, logit in enumerate(logits)), reverse=True)[:3]
    for result, (score, _) in zip(body["results"], wanted, strict=True):
        assert result["relevance_score"] == pytest.approx(score, abs=1e-3)


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/v1/embeddings", {"model": "chat", "input": "a"}, "generates text"),
        ("/v1/rerank", {"model": "chat", "query": "a", "documents": ["b"]}, "generates text"),
        ("/v1/embeddings", {"model": "ranks", "input": "a"}, "/v1/rerank"),
        ("/v1/rerank", {"model": "vectors", "query": "a", "documents": ["b"]}, "/v1/embeddings"),
        ("/v1/chat/completions", {"model": "vectors", "messages": [{"role": "user", "content": "a"}]}, "embeddings"),
        ("/v1/completions", {"model": "vectors", "prompt": "a"}, "embeddings"),
        ("/v1/embeddings", {"model": "vectors", "input": "a", "dimensions": 1000}, "64"),
        ("/v1/embeddings", {"model": "vectors", "input": "a " * 200, "truncate": False}, "128"),
    ],
)
async def test_a_model_is_asked_for_what_it_is_for(api: Api, path: str, body: dict[str, Any], said: str) -> None:
    status, answer = await post(api, path, **body)
    assert status == 400
    assert said in answer["error"]["message"]


async def test_the_list_says_what_each_model_is_for(models: dict[str, PooledModel], recite_gguf: Path) -> None:
    async with served(models, recite_gguf) as api:
        for path, body in (
            ("/v1/embeddings", {"model": "vectors", "input": "a"}),
            ("/v1/rerank", {"model": "ranks", "query": "a", "documents": ["b"]}),
        ):
            assert (await post(api, path, **body))[0] == 200
        async with api.session.get("/v1/models") as answer:
            listed = {entry["id"]: entry["meta"] for entry in (await answer.json())["data"]}
    assert {name: meta["kind"] for name, meta in listed.items()} == {
        "vectors": "embedding",
        "ranks": "rerank",
        "chat": None,
    }
    assert listed["vectors"]["n_embd"] == 64
