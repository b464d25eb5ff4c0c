"""Logarithms of probabilities, finite whatever the logits are."""

from __future__ import annotations

import math

import numpy as np
import pytest

from appliance.engine.runner.logprobs import of_certainty, of_draw, of_model, of_prompt
from appliance.types import TokenLogprob
from tests.unit.engine.runner.making import logits_row

SIZE = 512
ROW = logits_row(SIZE)
PIECES = dict.fromkeys(range(SIZE), b"x")


def test_they_sum_to_one_over_the_vocabulary() -> None:
    assert math.fsum(math.exp(of_model(ROW, token, 0, PIECES).logprob) for token in range(SIZE)) == pytest.approx(1)


def test_equal_tokens_are_in_order() -> None:
    row = np.zeros(SIZE, np.float32)
    assert [token for token, *_ in of_model(row, 9, 3, PIECES).top] == [0, 1, 2]


@pytest.mark.parametrize("row", [np.full(SIZE, -np.inf, np.float32), np.full(SIZE, np.nan, np.float32)])
def test_what_has_no_logarithm_is_minus_9999(row: np.ndarray[tuple[int], np.dtype[np.float32]]) -> None:
    assert of_model(row, 5, 1, PIECES) == TokenLogprob(5, b"x", -9999.0, ((0, b"x", -9999.0),))


def test_a_draw_knows_only_what_it_could_have_drawn() -> None:
    tokens, probabilities = np.array([7, 3, 4], np.int32), np.array([0.25, 0.75, 0.0], np.float32)
    drawn = of_draw(tokens, probabilities, 7, 5, PIECES)
    assert drawn.logprob == pytest.approx(math.log(0.25))
    assert [token for token, *_ in drawn.top] == [3, 7]
    assert of_draw(tokens, probabilities, 4, 0, PIECES).logprob == -9999.0


def test_certainty() -> None:
    assert of_certainty(4, 3, PIECES) == TokenLogprob(4, b"x", 0.0, ((4, b"x", 0.0),))
    assert of_certainty(4, 0, PIECES) == TokenLogprob(4, b"x", 0.0)


def test_of_a_prompt_each_token_has_the_row_before_it() -> None:
    rows = np.stack([logits_row(SIZE), np.roll(logits_row(SIZE), 7)])
    told = of_prompt([5, 6, 7, 8], range(3), rows, 2, PIECES)
    assert told == (TokenLogprob(5, b"x", 0.0), of_model(rows[0], 6, 2, PIECES), of_model(rows[1], 7, 2, PIECES))
    assert of_prompt([5, 6, 7, 8], range(2, 4), rows, 2, PIECES) == (
        of_model(rows[0], 7, 2, PIECES),
        of_model(rows[1], 8, 2, PIECES),
    )
    assert of_prompt([5], range(1), rows[:0], 2, PIECES) == (TokenLogprob(5, b"x", 0.0),)
