"""Masks, and that a draw under one is the draw from the allowed tokens alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from appliance.engine.runner.allowed import Allowed, words_of
from appliance.engine.runner.sampler import Sampler
from appliance.engine.runner.samplers import Samplers
from appliance.engine.sequence import Sequence
from appliance.errors import RequestError
from appliance.types import SamplingParams
from tests.unit.engine.runner.making import FakeTable, draw_from_all, logits_row, sequence_of

SIZE = 20_000


class FakeMatcher:
    """Always allows the same tokens."""

    complete = False

    def __init__(self, tokens: set[int]) -> None:
        self.words = mask(tokens)
        self.accepted: list[int] = []
        self.failure: RequestError | None = None

    def fill(self, words: NDArray[np.uint32]) -> None:
        words[:] = self.words

    def accept(self, token: int, piece: bytes, *, is_end: bool) -> None:
        self.accepted.append(token)

    def refuse(self, message: str) -> None:
        self.failure = RequestError("invalid_request", message)


def mask(tokens: set[int], size: int = SIZE) -> NDArray[np.uint32]:
    bits = np.zeros(words_of(size) * 32, np.uint8)
    bits[list(tokens)] = 1
    return np.packbits(bits, bitorder="little").view(np.uint32)


@given(st.sets(st.integers(0, 999)), st.sets(st.integers(0, 999)))
def test_a_mask_is_the_set_it_was_made_of(tokens: set[int], others: set[int]) -> None:
    allowed = Allowed(mask(tokens, 1000))
    listed = np.array(sorted(others), np.int64)
    assert allowed.count == len(tokens)
    assert set(allowed.tokens().tolist()) == tokens
    assert allowed.among(listed).tolist() == [token in tokens for token in sorted(others)]
    assert all((token in allowed) == (token in tokens) for token in range(1000))
    assert set(allowed.without(listed).tokens().tolist()) == tokens - others
    row, out = np.arange(1000, dtype=np.float32), np.empty(1024, np.float32)
    allowed.applied(row, out)
    assert set(np.flatnonzero(np.isfinite(out)).tolist()) == tokens
    assert all(out[token] == row[token] for token in tokens)


def constrained(params: SamplingParams, tokens: set[int]) -> Sequence:
    sequence = sequence_of(params, prompt=tuple(range(5)))
    sequence.matcher = FakeMatcher(tokens)
    return sequence


EVEN = set(range(0, SIZE, 2))


@pytest.mark.parametrize("changes", [
    {}, {"temperature": 0}, {"temperature": 0, "repeat_penalty": 1.5}, {"repeat_penalty": 1.5}, {"top_k": 0},
    {"top_k": 1}, {"mirostat": 2}, {"logit_bias": {2: 50, 3: 100, 4: -100}}, {"top_n_sigma": 1.0, "top_k": 0},
])  # fmt: skip
@pytest.mark.parametrize("kind", ["few", "half", "most", "worst"])
def test_it_is_the_draw_from_a_row_without_the_others(changes: dict[str, Any], kind: str) -> None:
    row = logits_row(SIZE, 1)
    order = np.argsort(row)
    tokens = {
        "few": set(range(100, 140)),
        "half": EVEN,
        "most": set(range(SIZE)) - set(order[-1:].tolist()),
        "worst": set(order[:6000].tolist()),
    }[kind]
    if "logit_bias" in changes:
        tokens |= {2, 4}
    params = SamplingParams(**({"seed": 5, "temperature": 1.0} | changes))
    (sampled,) = Samplers(FakeTable(SIZE)).draw(row[None].copy(), [constrained(params, tokens)])
    forbidden = np.array(sorted(set(range(SIZE)) - tokens))
    expected_row = row.copy()
    expected_row[forbidden] = -np.inf
    sampler = Sampler(sequence_of(params, prompt=tuple(range(5))), FakeTable(SIZE))
    if not params.top_n_sigma > 0:  # llama.cpp counts what is impossible into the deviation
        assert sampled.token == draw_from_all(sampler, expected_row)[0]
    sampler.close()
    assert sampled.token in tokens


def test_rows_whose_best_tokens_are_forbidden_change_nothing_for_the_others() -> None:
    rows = np.stack([logits_row(SIZE, seed) for seed in range(6)])
    rows[3, 100:200] = np.nan
    rows[4, 1::2] = np.inf
    order = np.argsort(rows, axis=1)
    kinds = [set(order[row, :6000].tolist()) if row % 2 else EVEN for row in range(6)]
    drawn = []
    for together in (True, False):
        sequences = [constrained(SamplingParams(seed=row, temperature=1), kinds[row]) for row in range(6)]
        for number, sequence in enumerate(sequences):
            sequence.number = number
        samplers = Samplers(FakeTable(SIZE))
        groups = [range(6)] if together else [range(row, row + 1) for row in range(6)]
        drawn.append(
            [
                sampled.token
                for group in groups
                for sampled in samplers.draw(rows[list(group)], [sequences[row] for row in group])
            ]
        )
    assert drawn[0] == drawn[1]
    assert all(token in kinds[row] for row, token in enumerate(drawn[0]))


def test_bans_beat_the_constraint_and_nothing_left_fails() -> None:
    banned = SamplingParams(seed=1, logit_bias={7: -100, 8: -100})
    sequence = constrained(banned, {7, 8})
    (sampled,) = Samplers(FakeTable(SIZE)).draw(logits_row(SIZE)[None], [sequence])
    assert sampled.failure is not None and "forbids" in sampled.failure.message
    (sampled,) = Samplers(FakeTable(SIZE)).draw(logits_row(SIZE)[None], [constrained(banned, {7, 9})])
    assert (sampled.token, sampled.failure) == (9, None)


def test_an_ignored_end_is_drawn_where_nothing_else_may_come() -> None:
    samplers = Samplers(FakeTable(SIZE, ends=frozenset({5})))
    params = SamplingParams(seed=1, ignore_eos=True)
    (sampled,) = samplers.draw(logits_row(SIZE)[None], [constrained(params, {5})])
    assert (sampled.token, sampled.is_end) == (5, True)
    samplers.close(1)
    (sampled,) = samplers.draw(logits_row(SIZE)[None], [constrained(params, {5, 6})])
    assert sampled.token == 6


def test_nothing_allowed_fails_and_not_a_number_is_impossible() -> None:
    samplers = Samplers(FakeTable(SIZE))
    (sampled,) = samplers.draw(logits_row(SIZE)[None], [constrained(SamplingParams(seed=1), set())])
    assert sampled.failure is not None
    samplers.close(1)
    row = logits_row(SIZE)
    row[sorted(EVEN)[:-1]] = np.nan
    (sampled,) = samplers.draw(row[None], [constrained(SamplingParams(seed=1, temperature=0), EVEN)])
    assert sampled.token == max(EVEN)


def test_looking_ahead_changes_nothing() -> None:
    rows = np.stack([logits_row(SIZE, seed) for seed in range(8)])
    drawn = []
    for ahead in (True, False):
        sequences = [constrained(SamplingParams(seed=seed), EVEN) for seed in range(8)]
        for number, sequence in enumerate(sequences):
            sequence.number = number
        samplers = Samplers(FakeTable(SIZE))
        if ahead:
            samplers.look_ahead(sequences)
        drawn.append([sampled.token for sampled in samplers.draw(rows, sequences)])
    assert drawn[0] == drawn[1]
