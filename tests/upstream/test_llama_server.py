"""llama-server as the benchmark builds it, behind the API: a real engine of another make."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.models.snapshot import InstanceState
from appliance.types import ModelSpec
from appliance.upstream_spec import UpstreamReplica, UpstreamSpec
from bench.llama_server import LlamaServer, running_llama_server
from bench.source_archive import BUILD
from tests.api.conftest import Api, running_api, sse
from tests.upstream.conftest import state
from tests.waiting import until

BINARY = Path(__file__).resolve().parents[2] / BUILD / "llama-server" / "bin" / "llama-server"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not BINARY.exists(), reason="`make bench` builds llama-server; it is not here"),
]


@pytest.fixture(scope="module")
def llama_server(recite_gguf: Path) -> Iterator[LlamaServer]:
    spec = ModelSpec(id="recite", path=str(recite_gguf), n_ctx=4096, parallel=4, threads=1, threads_batch=1)
    with running_llama_server(BINARY, spec, "unified") as server:
        yield server


@pytest.fixture
async def api(llama_server: LlamaServer, recite_gguf: Path) -> AsyncIterator[Api]:
    replica = UpstreamReplica(base_url=f"http://127.0.0.1:{llama_server.port}/v1")
    spec = UpstreamSpec(id="demo", model=recite_gguf.name, replicas=(replica,), preload=True)
    async with running_api(specs=[spec]) as api:
        await api.router.preloaded()
        assert state(api) is InstanceState.READY, api.router.troubles()
        yield api


async def test_a_stream(api: Api) -> None:
    answer = await api.completion("abc", stream=True, max_tokens=8, temperature=0)
    blocks: Any = sse(await answer.text())
    text = "".join(choice["text"] for block in blocks[:-1] for choice in block["choices"])
    assert text
    assert blocks[-2]["choices"][0]["finish_reason"] == "length"
    assert blocks[-2]["usage"]["completion_tokens"] == 8
    whole = await (await api.completion("abc", max_tokens=8, temperature=0)).json()
    assert whole["choices"][0]["text"] == text
    assert [record.completion_tokens for record in api.records] == [8, 8]
    assert {record.finish_reason for record in api.records} == {"length"}


async def test_a_chat(api: Api) -> None:
    answer = await api.chat("abc", stream=True, max_tokens=8, logprobs=True, top_logprobs=2)
    blocks: Any = sse(await answer.text())
    assert {block["model"] for block in blocks[:-1]} == {"demo"}
    assert any(choice.get("logprobs") for block in blocks[:-1] for choice in block["choices"])


async def test_what_it_refuses(api: Api) -> None:
    async with await api.completion("a" * 20_000, max_tokens=8) as answer:
        error = (await answer.json())["error"]
    assert answer.status == 400, error
    assert "context" in error["message"]


async def test_a_client_that_leaves(api: Api, llama_server: LlamaServer) -> None:
    answer = await api.completion("abc", stream=True, max_tokens=4000, ignore_eos=True)
    await answer.content.readany()
    answer.close()
    await until(lambda: api.records)
    assert api.records[0].outcome == "client_gone"
    # Its slot is free at once, and so the next one is not slow.
    assert (await api.completion("abc", max_tokens=2)).status == 200
