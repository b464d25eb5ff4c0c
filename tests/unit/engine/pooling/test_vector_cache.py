"""What is known already."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.pooling.vector_cache import ENTRY_BYTES, VectorCache

VECTOR = np.ones(4, np.float32)
ONE = VECTOR.nbytes + ENTRY_BYTES


def test_only_the_same_tokens_of_the_same_domain_are_found() -> None:
    cache = VectorCache(10 * ONE)
    cache.keep("a", [1, 2], VECTOR)
    assert cache.find("a", [1, 2]) is VECTOR
    assert cache.find("b", [1, 2]) is None
    assert cache.find("a", [1]) is None
    assert cache.find("a", [1, 2, 0]) is None


def test_what_was_used_least_goes_first() -> None:
    cache = VectorCache(2 * ONE)
    cache.keep("a", [1], VECTOR)
    cache.keep("a", [2], VECTOR)
    cache.find("a", [1])
    cache.keep("a", [3], VECTOR)
    assert [cache.find("a", [token]) is not None for token in (1, 2, 3)] == [True, False, True]


def test_nothing_is_kept_unless_it_is_asked_for() -> None:
    cache = VectorCache(0)
    cache.keep("a", [1], VECTOR)
    assert cache.find("a", [1]) is None and len(cache) == 0


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9))), st.integers(0, 5 * ONE))
def test_it_never_takes_more_than_it_may(kept: list[tuple[str, int]], bytes_max: int) -> None:
    cache = VectorCache(bytes_max)
    for domain, token in kept:
        cache.keep(domain, [token], VECTOR)
        assert cache.bytes == ONE * len(cache) <= bytes_max
