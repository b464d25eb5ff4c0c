"""The window of penalties."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.runner.recent import RecentTokens


@given(st.integers(0, 6), st.lists(st.integers(0, 4), max_size=30))
def test_it_holds_the_distinct_ones_of_the_last_tokens(size: int, tokens: list[int]) -> None:
    recent = RecentTokens(size)
    for token in tokens:
        recent.push(token)
    last = tokens[-size:] if size else []
    assert sorted(recent.distinct().tolist()) == sorted(set(last))
