"""Requests for vectors and scores, read."""

from __future__ import annotations

import pytest

from appliance.engine.pooling.reader import PoolingReader
from appliance.errors import RequestError
from appliance.types import ChatPrompt, EmbeddingPrompt, ModelKind, Prompt, RerankPrompt, TextPrompt, TokenPrompt
from tests.unit.engine.pooling.fake_tokenizer import FakeTokenizer


def reader(kind: ModelKind = "embedding", *, separators: bool = True) -> PoolingReader:
    tokenizer = FakeTokenizer(separators=separators)
    return PoolingReader(tokenizer, kind, n_ctx=8, dimensions=4, rerank_template=None)


def embedding(*inputs: str | tuple[int, ...], truncate: bool = True) -> EmbeddingPrompt:
    return EmbeddingPrompt(inputs=inputs, truncate=truncate)


def test_inputs_keep_their_order() -> None:
    found = reader().read(embedding("ab", (5, 6), ""))
    assert [each.tokens for each in found] == [[1, 97, 98, 2], [5, 6], [1, 2]]


def test_a_cut_text_ends_as_every_text_and_cut_tokens_as_they_are() -> None:
    text, tokens = reader().read(embedding("a" * 20, tuple(range(20))))
    assert text.truncated and text.tokens == [1, *[97] * 6, 2]
    assert tokens.truncated and tokens.tokens == list(range(8))


def test_a_text_of_megabytes_is_not_tokenised() -> None:
    (found,) = reader().read(embedding(" " * 10_000_000))
    assert found.truncated


@pytest.mark.parametrize("prompt", [embedding("a" * 20, truncate=False), embedding("a" * 10_000, truncate=False)])
def test_what_is_too_long_is_refused_where_it_shall_not_be_cut(prompt: EmbeddingPrompt) -> None:
    with pytest.raises(RequestError) as failed:
        reader().read(prompt)
    assert failed.value.code == "context_length_exceeded" and failed.value.details["n_ctx"] == 8


def test_of_a_pair_too() -> None:
    with pytest.raises(RequestError) as failed:
        reader("rerank").read(RerankPrompt(query="a", documents=("b", "c" * 20), truncate=False))
    assert "documents[1]" in failed.value.message


@pytest.mark.parametrize(
    ("kind", "prompt", "said"),
    [
        ("embedding", TextPrompt(text="a"), "/v1/embeddings"),
        ("embedding", TokenPrompt(tokens=(1,)), "/v1/embeddings"),
        ("embedding", RerankPrompt(query="a", documents=("b",)), "/v1/embeddings"),
        ("rerank", EmbeddingPrompt(inputs=("a",)), "/v1/rerank"),
        ("rerank", ChatPrompt(messages=()), "/v1/rerank"),
        ("embedding", EmbeddingPrompt(inputs=("a",), dimensions=5), "dimensions"),
        ("embedding", EmbeddingPrompt(inputs=((200,),)), "input[0] has token 200"),
        ("embedding", EmbeddingPrompt(inputs=((),)), "input[0] is empty"),
    ],
)
def test_what_cannot_run_is_refused(kind: ModelKind, prompt: Prompt, said: str) -> None:
    with pytest.raises(RequestError, match="invalid|" + said.replace("[", r"\[")) as failed:
        reader(kind).read(prompt)
    assert said in failed.value.message


def test_an_empty_text_of_a_model_without_separators_is_refused() -> None:
    with pytest.raises(RequestError, match="empty"):
        reader(separators=False).read(embedding(""))
