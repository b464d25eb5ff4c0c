"""Log probabilities of a prompt's own tokens, beside a softmax of what llama.cpp says of the whole prompt at once."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import llama_cpp
import numpy as np
import pytest
from numpy.typing import NDArray

from appliance.engine.runner import Runner, load
from appliance.types import LogprobParams, SamplingParams, TokenPrompt
from tests.engine.client import Answer, WorkerClient
from tests.engine.conftest import random_spec
from tests.engine.in_process import Engine, greedy

TOP = 3
REPORTED = LogprobParams(top=TOP, prompt_max=4096)
GREEDY = SamplingParams(temperature=0)
# What a different order of the same sums may move.
NEAR = 0.002


def ids(seed: int, count: int) -> list[int]:
    source = random.Random(seed)
    return [source.randrange(5, 250) for _ in range(count)]


def judged(path: Path, tokens: Sequence[int]) -> NDArray[np.float64]:
    """The logarithms of all probabilities after each token, by a context of its own in one pass."""
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
    params = llama_cpp.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_ubatch, params.n_threads = 1024, 1024, 1024, 1
    params.flash_attn_type, params.type_k, params.type_v = 0, 0, 0
    context = llama_cpp.llama_init_from_model(model, params)
    batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
    try:
        batch.n_tokens = len(tokens)
        for place, token in enumerate(tokens):
            batch.token[place], batch.pos[place], batch.logits[place] = token, place, 1
            batch.n_seq_id[place], batch.seq_id[place][0] = 1, 0
        assert llama_cpp.llama_decode(context, batch) == 0
        size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
        logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits(context), (len(tokens), size)).astype(np.float64)
        peaks = logits.max(axis=1, keepdims=True)
        table: NDArray[np.float64] = logits - peaks - np.log(np.exp(logits - peaks).sum(axis=1, keepdims=True))
        return table
    finally:
        llama_cpp.llama_batch_free(batch)
        llama_cpp.llama_free(context)
        llama_cpp.llama_model_free(model)


def check(answer: Answer, tokens: Sequence[int], table: NDArray[np.float64]) -> None:
    told = answer.scored
    assert [each.token for each in told] == list(tokens)
    assert (told[0].logprob, told[0].top) == (0.0, ())
    for place, each in enumerate(told[1:], 1):
        row = table[place - 1]
        assert each.logprob == pytest.approx(row[each.token], abs=NEAR)
        assert len(each.top) == TOP
        likeliest = np.sort(row)[::-1][:TOP]
        assert [logprob for _, _, logprob in each.top] == pytest.approx(likeliest.tolist(), abs=NEAR)


@pytest.fixture(scope="module")
def worker(random_gguf: Path) -> Iterator[WorkerClient]:
    """Small steps, so that every prompt comes in pieces."""
    with WorkerClient(fork=True) as client:
        client.load(random_spec(random_gguf, parallel=4, n_batch=48, n_ubatch=32))
        yield client


def add(client: WorkerClient, tokens: Sequence[int], max_tokens: int = 0) -> int:
    return client.add(TokenPrompt(tokens=tuple(tokens)), sampling=GREEDY, max_tokens=max_tokens, logprobs=REPORTED)


def test_alone_and_beside_others(worker: WorkerClient, random_gguf: Path) -> None:
    prompts = [ids(seed, count) for seed, count in enumerate((1, 2, 33, 190, 301))]
    numbers = [add(worker, prompt) for prompt in prompts]
    others = [worker.add("abc" * 30, max_tokens=60) for _ in range(3)]
    for answer, prompt in zip(worker.wait(*numbers), prompts, strict=True):
        check(answer, prompt, judged(random_gguf, prompt))
        assert (answer.finished.reason, answer.finished.usage.completion_tokens) == ("length", 0)
        assert answer.text == ""
    worker.wait(*others)


def test_what_is_in_the_cache_is_computed_again_and_found_by_others(worker: WorkerClient, random_gguf: Path) -> None:
    prompt = ids(9, 120)
    table = judged(random_gguf, prompt)
    for _ in range(2):
        (answer,) = worker.wait(add(worker, prompt))
        check(answer, prompt, table)
        assert answer.finished.usage.cached_tokens == 0
    plain = worker.ask(TokenPrompt(tokens=tuple(prompt)), max_tokens=1)
    assert plain.finished.usage.cached_tokens >= 100


def test_every_drawn_token_is_told_of_whatever_its_text(worker: WorkerClient, random_gguf: Path) -> None:
    """Who evaluates a model takes the last entry for the one drawn token."""
    for seed in range(20, 32):
        prompt = ids(seed, 8)
        (answer,) = worker.wait(add(worker, prompt, max_tokens=1))
        check(answer, prompt, judged(random_gguf, prompt))
        assert len(answer.logprobs) == answer.finished.usage.completion_tokens == 1


def test_a_prompt_that_is_too_long_to_be_told_of(worker: WorkerClient) -> None:
    few = LogprobParams(top=0, prompt_max=4)
    failed = worker.ask(TokenPrompt(tokens=(7,) * 5), max_tokens=0, logprobs=few).failed
    assert (failed.code, failed.param) == ("invalid_request", "logprobs")
    assert "may have 4 tokens, and this one has 5" in failed.message


@pytest.fixture(scope="module")
def little_room(random_gguf: Path) -> Runner:
    spec = random_spec(random_gguf, n_ctx=256, parallel=2, n_batch=32, n_ubatch=32, preempt_host_mib=0)
    return load(spec, lambda fraction: None)


def test_it_goes_on_after_a_preemption_where_it_was(little_room: Runner, random_gguf: Path) -> None:
    """Two prompts that do not fit side by side with an answer in between: each token is told of once all the same."""
    engine = Engine(little_room)
    prompts = {0: ids(1, 100), 1: ids(2, 100), 2: ids(3, 90)}
    for number, prompt in prompts.items():
        sequence = greedy(number, prompt, output_max=60, principal=f"p{number}")
        sequence.logprobs = REPORTED
        engine.add(sequence)
    engine.run()
    assert engine.scheduler.preemptions > 0
    for number, prompt in prompts.items():
        answer = Answer(scored=engine.scored[number])
        check(answer, prompt, judged(random_gguf, prompt))
