"""How large values count."""

from __future__ import annotations

import pytest

from appliance.engine.prompt.weight import WEIGHT_MAX, TooLargeError, bounded, weight_of


def test_weights() -> None:
    assert weight_of("abc") == 4
    assert weight_of(["abc", {"a": 1}]) == 1 + 4 + (1 + 2 + 1)
    assert weight_of(None) == weight_of(1.5) == 1


def test_a_shared_list_counts_as_often_as_it_is_written() -> None:
    inner = ["aaaa"] * 10
    assert weight_of([inner, inner]) == 1 + 2 * weight_of(inner)


def test_exponential_sharing_is_found_at_once() -> None:
    value: list[object] = []
    for _ in range(500):
        value = [value, value]
    with pytest.raises(TooLargeError):
        weight_of(value)


def test_limits() -> None:
    assert bounded(WEIGHT_MAX) == WEIGHT_MAX
    with pytest.raises(TooLargeError):
        bounded(WEIGHT_MAX + 1)
    with pytest.raises(TooLargeError):
        weight_of(1 << 2000)
