"""Chance is reproducible where a seed is given, and only there."""

from __future__ import annotations

from appliance.types import SamplingParams
from tests.engine.client import WorkerClient

PROMPT = "the quick brown fox [017]"


def sampled(client: WorkerClient, **params: float | int | None) -> str:
    sampling = SamplingParams(**({"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0} | params))  # type: ignore[arg-type]
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


def test_a_seed_holds_beside_other_requests(random_model: WorkerClient) -> None:
    alone = sampled(random_model, seed=11)
    sampling = SamplingParams(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, seed=11)
    numbers = [random_model.add(PROMPT, sampling=sampling, max_tokens=24) for _ in range(8)]
    assert {answer.text for answer in random_model.wait(*numbers)} == {alone}
