"""Knowledge bases as Dify's own classes see them: embeddings one text a request from ten threads, and rerank."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.dify.judge_process import Judge, needs_sdk
from tests.models.recite import recited

pytestmark = [needs_sdk, pytest.mark.slow]

EMBEDDING = {"context_size": "128"}
TEXTS = [f"text {number} of {total}" for total in range(5) for number in range(8)]
DOCUMENTS = ["a horse", "seven cats", "the moon 7", "a house of cards", "rain"]


@pytest.mark.parametrize("form", [{}, {"encoding_format": "float"}])
def test_validation_of_an_embedding_model(judge: Judge, form: dict[str, str]) -> None:
    assert judge.told("validate", "embed", EMBEDDING | form, kind="embedding")["valid"]


def test_validation_of_a_rerank_model(judge: Judge) -> None:
    assert judge.told("validate", "rank", kind="rerank")["valid"]


def test_embeddings_from_ten_threads_while_a_chat_streams(judge: Judge) -> None:
    alone = judge.told("embed", "embed", EMBEDDING, texts=TEXTS)
    threads = [judge.call("embed", "embed", EMBEDDING, texts=TEXTS[first::10]) for first in range(10)]
    message = {"role": "user", "content": "[000]"}
    chat = judge.call("chat", "recite", messages=[message], parameters={"max_tokens": 300})
    *parts, chatted = judge.together(*threads, chat)
    assert chatted["text"] == recited(0, 300)
    for first, part in enumerate(parts):
        assert "error" not in part, part
        np.testing.assert_allclose(part["vectors"], alone["vectors"][first::10], atol=1e-3)
    assert alone["tokens"] == sum(part["tokens"] for part in parts) > 0
    lengths = np.linalg.norm(np.asarray(alone["vectors"]), axis=1)
    assert np.isfinite(lengths).all() and (lengths > 0.5).all()
    assert len({tuple(vector) for vector in alone["vectors"]}) == len(TEXTS)


def test_a_text_that_is_too_long_is_cut(judge: Judge) -> None:
    assert judge.told("embed", "embed", EMBEDDING, texts=["word " * 1000])["tokens"] == 128


@pytest.mark.parametrize("count", [1, 3, 5])
def test_rerank_sorts_and_heeds_top_n(judge: Judge, count: int) -> None:
    docs = judge.told("rerank", "rank", query="a cat", docs=DOCUMENTS, top_n=count)["docs"]
    scores = [score for _, score, _ in docs]
    assert scores == sorted(scores, reverse=True)
    assert len(docs) == count
    assert all(0 <= score <= 1 and math.isfinite(score) for score in scores)
    assert all(text == DOCUMENTS[index] for index, _, text in docs)


def test_rerank_heeds_the_threshold(judge: Judge) -> None:
    everything = judge.told("rerank", "rank", query="a cat", docs=DOCUMENTS)["docs"]
    threshold = everything[2][1]
    kept = judge.told("rerank", "rank", query="a cat", docs=DOCUMENTS, score_threshold=threshold)["docs"]
    assert [index for index, *_ in kept] == [index for index, *_ in everything[:3]]
    assert judge.told("rerank", "rank", query="a cat", docs=[])["docs"] == []


def test_an_image_is_refused_and_the_reason_is_shown(judge: Judge) -> None:
    shown = judge.refused("embed", "embed", EMBEDDING, texts=["Image:data:image/png;base64,AAAA"])
    assert "Error code: 400" in shown
    assert "texts are embedded" in shown and "no images" in shown
