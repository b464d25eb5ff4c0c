"""How the worker draws: chance is reproducible where a seed is given and only there, and every parameter counts."""

from __future__ import annotations

import math
from typing import Any

import pytest

from appliance.types import LogprobParams, SamplingParams
from tests.engine.client import GREEDY, WorkerClient
from tests.models.vocabulary import EOS, ID, N_VOCAB, word

PROMPT = "the quick brown fox [017]"


def sampled(client: WorkerClient, **params: Any) -> str:
    sampling = SamplingParams(**({"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0} | params))
    return client.ask(PROMPT, sampling=sampling, max_tokens=24).text


def test_the_same_seed_gives_the_same_answer(random_model: WorkerClient) -> None:
    for seed in (0, 7, -1, 2**32 - 1, 2**63 - 1):
        assert sampled(random_model, seed=seed) == sampled(random_model, seed=seed)


def test_another_seed_gives_another_answer(random_model: WorkerClient) -> None:
    assert len({sampled(random_model, seed=seed) for seed in range(6)}) == 6


def test_without_a_seed_answers_differ(random_model: WorkerClient) -> None:
    assert len({sampled(random_model) for _ in range(4)}) == 4


def test_top_k_1_is_greedy(random_model: WorkerClient) -> None:
    assert sampled(random_model, top_k=1) == sampled(random_model, temperature=0)


def test_a_tiny_top_p_is_greedy(random_model: WorkerClient) -> None:
    assert sampled(random_model, top_p=0.0) == sampled(random_model, temperature=0)


def test_min_p_1_is_greedy(random_model: WorkerClient) -> None:
    assert sampled(random_model, min_p=1.0) == sampled(random_model, temperature=0)


def test_a_low_temperature_is_greedy(random_model: WorkerClient) -> None:
    assert sampled(random_model, temperature=0.001, seed=1) == sampled(random_model, temperature=0)


@pytest.mark.parametrize("top_k", [0, 2])
def test_a_seed_holds_beside_other_requests(random_model: WorkerClient, top_k: int) -> None:
    """With top_k few rows are llama.cpp's own draw over the vocabulary, and many are drawn from our shortlist."""
    alone = [sampled(random_model, seed=seed, top_k=top_k) for seed in range(8)]
    each = [SamplingParams(temperature=1.0, top_k=top_k, top_p=1.0, min_p=0.0, seed=seed) for seed in range(8)]
    numbers = [random_model.add(PROMPT, sampling=sampling, max_tokens=24) for sampling in each]
    assert [answer.text for answer in random_model.wait(*numbers)] == alone
    assert len(set(alone)) > 4


@pytest.mark.parametrize(
    "params",
    [
        {"dynatemp_range": 0.9},
        {"top_n_sigma": 0.1},
        {"typical_p": 0.2},
        {"xtc_probability": 1.0, "xtc_threshold": 0.001},
        {"repeat_penalty": 5.0},
        {"frequency_penalty": 2.0},
        {"presence_penalty": 2.0},
        {"dry_multiplier": 50.0, "dry_allowed_length": 0},
        {"mirostat": 1, "mirostat_tau": 1.0},
        {"mirostat": 2, "mirostat_tau": 1.0},
        {"adaptive_target": 0.1},
        {"logit_bias": {ID["a"]: 10.0}},
        {"top_k": 2},
    ],
    ids=str,
)
def test_each_parameter_changes_the_answer_and_keeps_it_reproducible(
    random_model: WorkerClient, params: dict[str, Any]
) -> None:
    changed = sampled(random_model, seed=4, **params)
    assert changed == sampled(random_model, seed=4, **params)
    assert changed != sampled(random_model, seed=4)


def test_logit_bias_forces_and_forbids(recite: WorkerClient) -> None:
    forced = SamplingParams(temperature=0, logit_bias={ID["q"]: 100})
    assert recite.ask("a", sampling=forced, max_tokens=3).text == "qqq"
    assert recite.ask("x", max_tokens=9).text == "yz"
    forbidden = SamplingParams(temperature=0, logit_bias={EOS: -100})
    assert recite.ask("x", sampling=forbidden, max_tokens=4).text == "yzab"


def test_a_bias_beyond_the_vocabulary_is_refused(recite: WorkerClient) -> None:
    assert recite.ask("a", sampling=SamplingParams(logit_bias={N_VOCAB - 1: 1}), max_tokens=1).finished
    failed = recite.ask("a", sampling=SamplingParams(logit_bias={N_VOCAB: 1})).failed
    assert (failed.code, failed.param) == ("invalid_request", "logit_bias")


def test_of_equal_logits_greedy_takes_the_first_token(recite: WorkerClient) -> None:
    equal = SamplingParams(temperature=0, logit_bias={ID[token]: 100 for token in "qpr"})
    assert recite.ask("?", sampling=equal, max_tokens=1).text == "p"


def test_penalties_look_back_on_the_prompt(recite: WorkerClient) -> None:
    prompt = word(3) + word(2)
    # The successor's logit is 24, all others are 0: the bias brings it within reach of a penalty.
    near: dict[str, Any] = {"temperature": 0, "logit_bias": {ID[word(3)]: -23}}
    assert recite.ask(prompt, sampling=SamplingParams(**near), max_tokens=1).text == word(3)
    penalised = SamplingParams(**near, presence_penalty=2)
    assert recite.ask(prompt, sampling=penalised, max_tokens=1).text != word(3)
    short = SamplingParams(**near, presence_penalty=2, repeat_last_n=1)
    assert recite.ask(prompt, sampling=short, max_tokens=1).text == word(3)


def test_dry_ends_a_repetition_of_the_prompt_unless_a_breaker_is_in_it(recite: WorkerClient) -> None:
    prompt = "".join(word(index) for index in (*range(10, 16), 99, *range(10, 13)))
    dry: dict[str, Any] = {"temperature": 0, "dry_multiplier": 50.0}
    assert recite.ask(prompt, max_tokens=1).text == word(13)
    assert recite.ask(prompt, sampling=SamplingParams(**dry), max_tokens=1).text != word(13)
    for off in (
        {"dry_multiplier": 0.0},
        {"dry_penalty_last_n": 0},
        {"dry_penalty_last_n": 4},
        {"dry_allowed_length": 5},
        {"dry_sequence_breakers": (word(12),)},
        {"dry_sequence_breakers": ("é", "12]")},
    ):
        assert recite.ask(prompt, sampling=SamplingParams(**(dry | off)), max_tokens=1).text == word(13), off


def test_raw_logprobs_are_those_of_the_model_whatever_is_drawn(random_model: WorkerClient) -> None:
    plain = random_model.ask(PROMPT, max_tokens=4, logprobs=LogprobParams(top=20))
    assert len(plain.logprobs) == 4
    assert b"".join(each.piece for each in plain.logprobs).decode(errors="replace") == plain.text
    first = plain.logprobs[0]
    assert first.top[0] == (first.token, first.piece, first.logprob)
    # An end and half a character have no text, and what has no text is not reported.
    for token, piece, logprob in (each for each in first.top if each[1].decode(errors="ignore")):
        sampling = SamplingParams(temperature=0, logit_bias={token: 1000})
        (forced,) = random_model.ask(PROMPT, sampling=sampling, max_tokens=1, logprobs=LogprobParams()).logprobs
        assert (forced.token, forced.piece) == (token, piece)
        assert forced.logprob == pytest.approx(logprob, abs=1e-3)


def test_processed_logprobs_follow_the_samplers(random_model: WorkerClient) -> None:
    sampling = SamplingParams(temperature=0.7, top_k=5, top_p=1, min_p=0, seed=1)
    wanted = LogprobParams(top=20, processed=True)
    for logprob in random_model.ask(PROMPT, sampling=sampling, max_tokens=8, logprobs=wanted).logprobs:
        assert len(logprob.top) == 5
        assert sum(math.exp(value) for *_, value in logprob.top) == pytest.approx(1, abs=1e-4)
        assert (logprob.token, logprob.piece, logprob.logprob) in logprob.top
    greedy = random_model.ask(PROMPT, max_tokens=2, logprobs=wanted).logprobs[0]
    assert greedy.top == ((greedy.token, greedy.piece, 0.0),)


def test_logprobs_are_reported_once_for_every_token_and_only_where_asked(recite: WorkerClient) -> None:
    numbers = [
        recite.add("A", sampling=GREEDY, max_tokens=40, logprobs=LogprobParams(top=2) if index % 2 else None)
        for index in range(4)
    ]
    for index, answer in enumerate(recite.wait(*numbers)):
        assert answer.text == "BCDEFGHIJKLMNOPQRSTUVWXYZé"
        for delta in answer.deltas:
            assert len(delta.logprobs) == (delta.tokens if index % 2 else 0)
        assert sum(delta.tokens for delta in answer.deltas) == 27
