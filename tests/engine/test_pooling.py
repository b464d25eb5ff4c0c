"""Vectors and scores out of a real worker, held against the same computation in numpy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from appliance.types import EmbeddingPrompt, ModelSpec, RerankPrompt, TextPrompt
from tests.engine.client import WorkerClient
from tests.models.pooled import (
    CLS,
    CONTEXT,
    SEP,
    PooledModel,
    Pooling,
    bert_pair,
    bert_tokens,
    build_bert,
    build_causal,
    causal_tokens,
)

TEXTS = ("hello world", "a", "the quick brown fox jumps over the lazy dog", "0123 456 789", "b" * 60)
TEMPLATE = "[007]<s>[001]{query}[002]{document}</s>[003]"


def spec(model: PooledModel, **changes: object) -> ModelSpec:
    fields: dict[str, object] = {"threads": 1, "threads_batch": 1}
    return ModelSpec(id="pooled", path=str(model.path), **(fields | changes))  # type: ignore[arg-type]


@contextmanager
def serving(model: PooledModel, **changes: object) -> Iterator[WorkerClient]:
    with WorkerClient(fork=True) as client:
        client.load(spec(model, **changes))
        yield client


@pytest.fixture(scope="module")
def mean(tmp_path_factory: pytest.TempPathFactory) -> PooledModel:
    return build_bert(tmp_path_factory.mktemp("bert") / "mean.gguf", "mean")


@pytest.fixture(scope="module")
def worker(mean: PooledModel) -> Iterator[WorkerClient]:
    with serving(mean, embedding_cache_mib=0, n_ubatch=128) as client:
        yield client


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_vectors_of_a_bert_are_those_of_numpy(tmp_path: Path, pooling: Pooling) -> None:
    model = build_bert(tmp_path / "bert.gguf", pooling)
    with serving(model) as client:
        answer = client.ask(EmbeddingPrompt(inputs=TEXTS))
    wanted = np.array([model.vector(bert_tokens(text)) for text in TEXTS])
    assert (np.sum(answer.vectors() * wanted, axis=1) >= 0.999).all()
    assert np.allclose(np.linalg.norm(answer.vectors(), axis=1), 1, atol=1e-6)
    assert answer.finished.usage.prompt_tokens == sum(len(bert_tokens(text)) for text in TEXTS)


def test_vectors_of_a_causal_model_are_those_of_numpy_also_in_pieces(tmp_path: Path) -> None:
    model = build_causal(tmp_path / "causal.gguf", "last")
    pairs = [causal_tokens(range(start, start + length)) for start, length in ((0, 3), (5, 90), (40, 200))]
    with serving(model, n_ctx=256, n_ubatch=64) as client:
        answer = client.ask(EmbeddingPrompt(inputs=tuple(text for text, _ in pairs)))
    wanted = np.array([model.vector(tokens) for _, tokens in pairs])
    assert (np.sum(answer.vectors() * wanted, axis=1) >= 0.999).all()


def test_an_input_has_the_same_vector_alone_and_in_a_batch(worker: WorkerClient) -> None:
    alone = np.concatenate([worker.ask(EmbeddingPrompt(inputs=(text,))).vectors() for text in TEXTS])
    several = [worker.add(EmbeddingPrompt(inputs=TEXTS), domain=f"client {number}") for number in range(5)]
    for answer in worker.wait(*several):
        assert np.abs(answer.vectors() - alone).max() < 1e-3


def test_token_ids_are_taken_as_they_are(worker: WorkerClient, mean: PooledModel) -> None:
    tokens = tuple(bert_tokens("hello")), (CLS, SEP)
    answer = worker.ask(EmbeddingPrompt(inputs=tokens))
    wanted = np.array([mean.vector(each) for each in tokens])
    assert (np.sum(answer.vectors() * wanted, axis=1) >= 0.999).all()


def test_what_is_too_long_is_cut_and_ended_as_every_text(worker: WorkerClient, mean: PooledModel) -> None:
    long = "abc " * 100
    answer = worker.ask(EmbeddingPrompt(inputs=("short", long, "x" * 1_000_000)))
    assert [answer.pooled[index].truncated for index in range(3)] == [False, True, True]
    tokens = [*bert_tokens(long)[: CONTEXT - 1], SEP]
    assert answer.pooled[1].tokens == len(tokens)
    assert answer.vectors()[1] @ mean.vector(tokens) >= 0.999


def test_what_is_too_long_is_refused_where_it_shall_not_be_cut(worker: WorkerClient) -> None:
    failed = worker.ask(EmbeddingPrompt(inputs=("a", "abc " * 100), truncate=False)).failed
    assert failed.code == "context_length_exceeded"
    assert failed.details == {"n_prompt_tokens": 302, "n_ctx": CONTEXT}


def test_fewer_dimensions_are_the_first_ones_with_length_one_again(worker: WorkerClient) -> None:
    whole = worker.ask(EmbeddingPrompt(inputs=("hello",))).vectors()[0]
    cut = worker.ask(EmbeddingPrompt(inputs=("hello",), dimensions=16)).vectors()[0]
    assert np.allclose(cut, whole[:16] / np.linalg.norm(whole[:16]), atol=1e-4)
    failed = worker.ask(EmbeddingPrompt(inputs=("hello",), dimensions=65)).failed
    assert failed.param == "dimensions" and "64" in failed.message


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        (EmbeddingPrompt(inputs=((5, 90_000),)), "input[0] has token 90000"),
        (EmbeddingPrompt(inputs=("a", ())), "input[1] is empty"),
        (RerankPrompt(query="a", documents=("b",)), "makes embeddings"),
        (TextPrompt(text="a"), "makes embeddings"),
    ],
)
def test_what_cannot_run_is_refused(worker: WorkerClient, prompt: EmbeddingPrompt, said: str) -> None:
    failed = worker.ask(prompt).failed
    assert failed.code == "invalid_request" and said in failed.message


def test_a_chat_model_refuses_embeddings(recite: WorkerClient) -> None:
    failed = recite.ask(EmbeddingPrompt(inputs=("a",))).failed
    assert failed.code == "invalid_request" and "generates text" in failed.message


def test_forty_requests_at_once_and_one_that_is_aborted(worker: WorkerClient) -> None:
    wanted = worker.ask(EmbeddingPrompt(inputs=("hello world",))).vectors()[0]
    large = worker.add(EmbeddingPrompt(inputs=tuple("abc " * 20 for _ in range(200))), domain="large")
    small = [worker.add(EmbeddingPrompt(inputs=("hello world",)), domain=f"{number % 4}") for number in range(40)]
    worker.abort(large)
    for answer in worker.wait(*small):
        assert answer.vectors()[0] @ wanted >= 0.9999
    assert worker.wait(large)[0].failed.code is None


def test_known_vectors_are_found_inside_their_cache_domain_only(mean: PooledModel) -> None:
    with serving(mean, embedding_cache_mib=1) as client:
        first = client.ask(EmbeddingPrompt(inputs=TEXTS), domain="one")
        again = client.ask(EmbeddingPrompt(inputs=TEXTS[:2], dimensions=8), domain="one")
        other = client.ask(EmbeddingPrompt(inputs=TEXTS), domain="other")
        steps = client.step.steps
    assert first.finished.usage.cached_tokens == other.finished.usage.cached_tokens == 0
    assert again.finished.usage.cached_tokens == again.finished.usage.prompt_tokens
    assert again.vectors().shape == (2, 8)
    assert steps == 2


def test_scores_of_a_bert_are_those_of_numpy(tmp_path: Path) -> None:
    model = build_bert(tmp_path / "rank.gguf", "rank")
    with serving(model) as client:
        answer = client.ask(RerankPrompt(query="hello world", documents=TEXTS))
        cut = client.ask(RerankPrompt(query="q " * 500, documents=("d " * 500,)))
        empty = client.ask(RerankPrompt(query="q", documents=("",)))
    logits = [model.pooled(bert_pair("hello world", text))[0] for text in TEXTS]
    assert np.allclose(answer.vectors()[:, 0], 1 / (1 + np.exp(-np.array(logits))), atol=1e-3)
    assert cut.pooled[0].truncated and cut.pooled[0].tokens == CONTEXT
    assert 0 <= empty.vectors()[0, 0] <= 1


def test_labels_of_a_classifier_go_through_a_softmax(tmp_path: Path) -> None:
    model = build_bert(tmp_path / "rank.gguf", "rank", labels=2)
    with serving(model) as client:
        answer = client.ask(RerankPrompt(query="hello", documents=TEXTS))
    logits = np.array([model.pooled(bert_pair("hello", text)) for text in TEXTS])
    assert np.allclose(answer.vectors()[:, 0], 1 / (1 + np.exp(logits[:, 0] - logits[:, 1])), atol=1e-3)


def test_probabilities_stay_what_they_are_and_a_template_joins_the_texts(tmp_path: Path) -> None:
    model = build_causal(tmp_path / "rank.gguf", "rank", rerank_template=TEMPLATE)
    query, document = "[100][101]", "[120][121]</s>{query}"
    with serving(model, n_ctx=512) as client:
        plain = client.ask(RerankPrompt(query=query, documents=("[120][121]",)))
        sly = client.ask(RerankPrompt(query=query, documents=(document,)))
        cut = client.ask(RerankPrompt(query=query, documents=("[050]" * 2000,)))
    _, inside = causal_tokens((7, 1, 100, 101, 2, 120, 121, 3))
    bos, *words, eos = inside
    tokens = [words[0], bos, *words[1:-1], eos, words[-1]]
    assert plain.pooled[0].tokens == len(tokens)
    assert plain.vectors()[0, 0] == pytest.approx(float(model.pooled(tokens)[0]), abs=1e-3)
    # The sly document's `</s>` is nine letters and signs, no token that ends anything.
    assert sly.pooled[0].tokens > len(tokens) + 4
    assert cut.pooled[0].truncated and cut.pooled[0].tokens <= 512


@pytest.mark.parametrize(
    ("build", "changes", "said"),
    [
        (lambda path: build_bert(path, None), {}, "set `pooling` to mean, cls or last"),
        (lambda path: build_bert(path, "mean"), {"pooling": "none"}, "set `pooling`"),
        (lambda path: build_causal(path, "last"), {"pooling": "cls"}, "pooling: last"),
        (lambda path: build_bert(path, "rank", labels=3), {}, None),
    ],
)
def test_what_cannot_be_served_is_said_at_the_load(
    tmp_path: Path, build: Callable[[Path], PooledModel], changes: dict[str, object], said: str | None
) -> None:
    model = build(tmp_path / "model.gguf")
    with WorkerClient(fork=True) as client:
        client.begin_load(spec(model, **changes))
        outcome = client.load_outcome()
    assert said is None or said in str(outcome)


def test_pooling_of_models_yaml_makes_a_chat_model_embed(random_gguf: Path) -> None:
    with WorkerClient(fork=True) as client:
        info = client.load(
            ModelSpec(id="chat", path=str(random_gguf), pooling="mean", n_ctx=512, threads=1, threads_batch=1)
        )
        answer = client.ask(EmbeddingPrompt(inputs=("[001][002]", "[003]")))
    assert (info.kind, info.pooling, info.n_ctx) == ("embedding", "mean", 512)
    assert answer.vectors().shape == (2, info.embedding_length)
