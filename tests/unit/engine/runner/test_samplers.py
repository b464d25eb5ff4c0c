"""A step's draw gives each request what llama.cpp's chain alone would give it from the whole vocabulary."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.engine.advance import Sampled
from appliance.engine.runner.sampler import Sampler
from appliance.engine.runner.samplers import Samplers
from appliance.engine.thought import ThoughtBudget
from appliance.types import AnswerFormat, LogprobParams, SamplingParams
from tests.examples import at_most
from tests.unit.engine.runner.making import FakeTable, draw_from_all, logits_row, sequence_of

SIZE = 16_500
TABLE = FakeTable(SIZE, ends=frozenset({3}))
ROWS = np.stack([logits_row(SIZE, seed) for seed in range(6)])
STEPS = 3
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "temperature": st.sampled_from([0.0, 0.7, 1.5]),
    "dynatemp_range": st.sampled_from([0.0, 0.5]),
    "top_k": st.sampled_from([1, 40, 64, 200, 0]),
    "top_p": st.sampled_from([0.5, 0.95, 1.0]),
    "min_p": st.sampled_from([0.0, 0.05]),
    "typical_p": st.sampled_from([0.8, 1.0]),
    "top_n_sigma": st.sampled_from([-1.0, 2.0]),
    "xtc_probability": st.sampled_from([0.0, 0.5]),
    "min_keep": st.sampled_from([0, 3]),
    "repeat_penalty": st.sampled_from([1.0, 1.3]),
    "presence_penalty": st.sampled_from([0.0, -2.0]),
    "mirostat": st.sampled_from([0, 0, 0, 1, 2]),
    "adaptive_target": st.sampled_from([-1.0, -1.0, 0.3]),
    "logit_bias": st.dictionaries(st.integers(0, SIZE - 1), st.floats(-120, 30), max_size=5),
    "ignore_eos": st.booleans(),
    "seed": st.integers(0, 2**31),
}
PARAMS = st.fixed_dictionaries(FIELDS).map(lambda fields: SamplingParams(**fields))
PROMPT = tuple(int(token) for row in ROWS for token in np.argsort(-row)[:10])


def expected(params: SamplingParams, rows: list[int]) -> list[int]:
    """By llama.cpp's chain on the whole vocabulary."""
    sampler = Sampler(sequence_of(params, prompt=PROMPT), TABLE)
    tokens = []
    for row in rows:
        tokens.append(draw_from_all(sampler, ROWS[row])[0])
        sampler.accept(tokens[-1])
    sampler.close()
    return tokens


@settings(max_examples=at_most(40))
@given(st.lists(PARAMS, min_size=1, max_size=4))
def test_draws_are_those_of_the_whole_vocabulary_alone(requests: list[SamplingParams]) -> None:
    samplers = Samplers(TABLE)
    sequences = [sequence_of(params, number, PROMPT) for number, params in enumerate(requests)]
    steps = []
    for step in range(STEPS):
        rows = [(number + step) % len(ROWS) for number in range(len(requests))]
        steps.append([drawn.token for drawn in samplers.draw(ROWS[rows], sequences)])
    for number, params in enumerate(requests):
        rows = [(number + step) % len(ROWS) for step in range(STEPS)]
        assert [tokens[number] for tokens in steps] == expected(params, rows)
        samplers.close(number)
    assert len(samplers) == 0


def draw(params: SamplingParams, row: np.ndarray[Any, np.dtype[np.float32]], **changes: Any) -> Sampled:
    samplers = Samplers(TABLE)
    sequence = sequence_of(params)
    sequence.logprobs = changes.get("logprobs")
    (drawn,) = samplers.draw(row[None], [sequence])
    samplers.close(sequence.number)
    return drawn


def test_of_equal_logits_greedy_takes_the_lowest_token() -> None:
    row = np.zeros(SIZE, np.float32)
    row[[70, 5000, 16_499]] = 2
    for params in (SamplingParams(temperature=0), SamplingParams(temperature=0, logit_bias={4: 1.0})):
        assert draw(params, row).token == 70


def test_ties_beyond_top_k_are_drawn_alike_in_any_company() -> None:
    flat = np.zeros(SIZE, np.float32)
    params = SamplingParams(seed=3)
    samplers = Samplers(TABLE)
    beside = samplers.draw(np.stack([ROWS[0], flat, ROWS[1]]), [sequence_of(params, number) for number in range(3)])
    assert beside[1].token == draw(params, flat).token


@pytest.mark.parametrize("params", [SamplingParams(temperature=0), SamplingParams(), SamplingParams(top_k=0)], ids=str)
def test_nan_is_never_drawn(params: SamplingParams) -> None:
    row = np.full(SIZE, np.nan, np.float32)
    row[[9, 600]] = -5
    assert draw(params, row).token in (9, 600)


def test_a_row_of_nothing_but_nan_draws_something() -> None:
    for params in (SamplingParams(temperature=0), SamplingParams(), SamplingParams(mirostat=2)):
        drawn = draw(params, np.full(SIZE, np.nan, np.float32), logprobs=LogprobParams(top=2))
        assert drawn.logprob is not None and drawn.logprob.logprob == -9999.0


def test_suppressed_tokens_and_with_ignore_eos_ends_are_never_drawn() -> None:
    row = np.zeros(SIZE, np.float32)
    row[[3, 8]] = 20
    table = FakeTable(SIZE, ends=frozenset({3}), suppressed=frozenset({8}))
    sequence = sequence_of(SamplingParams(seed=1))
    assert Samplers(table).draw(row[None], [sequence])[0] == Sampled(3, b"<3>", True)
    sequence = sequence_of(SamplingParams(seed=1, ignore_eos=True, logit_bias={3: 500.0}))
    assert Samplers(table).draw(row[None], [sequence])[0].token not in (3, 8)


@pytest.mark.parametrize("top", [0, 5, 20])
def test_raw_logprobs_are_the_softmax_of_the_logits(top: int) -> None:
    drawn = draw(SamplingParams(seed=1, logit_bias={7: 50.0}), ROWS[0], logprobs=LogprobParams(top=top))
    assert drawn.token == 7 and drawn.logprob is not None
    row = ROWS[0].astype(np.float64)
    logprobs = row - row.max() - np.log(np.exp(row - row.max()).sum())
    assert (drawn.logprob.token, drawn.logprob.piece) == (7, b"<7>")
    assert drawn.logprob.logprob == pytest.approx(logprobs[7], abs=1e-4)
    best = np.argsort(-row)[:top].tolist()
    assert [(token, piece) for token, piece, _ in drawn.logprob.top] == [
        (token, f"<{token}>".encode()) for token in best
    ]
    assert [each for *_, each in drawn.logprob.top] == pytest.approx(logprobs[best].tolist(), abs=1e-4)


def test_processed_logprobs_are_those_of_the_draw() -> None:
    wanted = LogprobParams(top=20, processed=True)
    drawn = draw(SamplingParams(seed=1, top_k=5, top_p=1, min_p=0, temperature=1.5), ROWS[0], logprobs=wanted)
    assert drawn.logprob is not None and len(drawn.logprob.top) == 5
    assert sum(np.exp(each) for *_, each in drawn.logprob.top) == pytest.approx(1, abs=1e-4)
    assert (drawn.token, drawn.piece, drawn.logprob.logprob) in drawn.logprob.top
    xtc = SamplingParams(seed=1, xtc_probability=1, xtc_threshold=0.01)
    drawn = draw(xtc, ROWS[0], logprobs=wanted)
    assert drawn.logprob is not None and drawn.logprob.logprob > -9999.0


def test_a_greedy_draw_is_certain() -> None:
    drawn = draw(SamplingParams(temperature=0), ROWS[0], logprobs=LogprobParams(top=3, processed=True))
    best = int(ROWS[0].argmax())
    assert drawn.logprob is not None and drawn.logprob.logprob == 0.0
    assert drawn.logprob.top == ((best, f"<{best}>".encode(), 0.0),)


def test_control_tokens_that_are_spoken_have_a_text() -> None:
    table = FakeTable(SIZE)
    best = int(np.argmax(ROWS[0]))
    object.__setattr__(table, "pieces", tuple(b"" if token == best else b"x" for token in range(SIZE)))
    silent, spoken = (sequence_of(SamplingParams(temperature=0), number) for number in (1, 2))
    spoken.spoken = {best: b"<think>"}
    samplers = Samplers(table)
    assert [each.piece for each in samplers.draw(ROWS[[0, 0]], [silent, spoken])] == [b"", b"<think>"]


@pytest.mark.parametrize("processed", [False, True])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_thought_that_is_over_is_closed(processed: bool, temperature: float) -> None:
    sequence = sequence_of(SamplingParams(temperature=temperature, seed=1))
    sequence.logprobs = LogprobParams(top=1, processed=processed)
    sequence.thought = ThoughtBudget(AnswerFormat(reasoning="think", thinking=True), 1, (11, 12))
    samplers = Samplers(TABLE)
    tokens = []
    for row in (0, 1, 2, 3):
        (sampled,) = samplers.draw(ROWS[[row]], [sequence])
        tokens.append(sampled.token)
        assert sampled.logprob is not None
    assert tokens[1:3] == [11, 12]
    assert tokens[0] not in (11, 12)
    samplers.close(sequence.number)
