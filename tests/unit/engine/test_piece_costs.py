"""What is known of the costs of pieces."""

from __future__ import annotations

import pytest

from appliance.engine.piece_costs import PieceCosts


def test_nothing_is_known_at_first() -> None:
    assert PieceCosts().each(10) is None
    assert PieceCosts().most_within(1.0) == 0


def test_between_known_sizes_it_is_a_line() -> None:
    costs = PieceCosts()
    for tokens in (8, 128, 512):
        costs.note(tokens, 0.006 + tokens * 0.0001)
    assert costs.each(256) == pytest.approx((0.006 + 0.0256) / 256)
    assert costs.most_within(0.006 + 0.02565) == 256
    # Beyond them nothing is cheaper, nor below.
    assert costs.each(4) == costs.each(8)
    assert costs.each(1024) == costs.each(512)
    assert costs.most_within(2 * (0.006 + 0.0512) + 1e-6) == 1024
    assert costs.most_within(0.006) == 0


def test_a_size_that_costs_less_than_a_smaller_one_is_found() -> None:
    costs = PieceCosts()
    costs.note(48, 0.2)
    costs.note(100, 0.1)
    assert costs.most_within(0.1001) == 100
    assert costs.most_within(0.09) == 0


def test_slow_steps_count_for_less_than_fast_ones() -> None:
    costs = PieceCosts()
    for seconds in (0.1, 1.1):
        costs.note(100, seconds)
    assert costs.each(100) == pytest.approx(0.004)
    costs.note(100, 0.1)
    assert costs.each(100) == pytest.approx(0.0019)
