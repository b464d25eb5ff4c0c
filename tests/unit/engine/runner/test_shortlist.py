"""A shortlist holds every token that can be among the best, whatever happens to the touched ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from appliance.engine.runner.shortlist import best_max, shortlist
from tests.examples import at_most

NONE = np.empty(0, np.int64)


def listed(logits: NDArray[np.float32], best: list[int], touched: list[NDArray[np.int64]]) -> list[list[int]]:
    found = shortlist(logits, range(len(logits)), best, touched)
    return [part.tolist() for part in np.split(found.tokens, np.cumsum(found.sizes)[:-1])]


@st.composite
def cases(draw: st.DrawFn) -> tuple[NDArray[np.float32], list[int], list[NDArray[np.int64]]]:
    """Rows with many ties, impossible tokens and NaN; some tokens of each are touched, the best ones among them."""
    size = draw(st.integers(256, 1500))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows = draw(st.integers(1, 4))
    logits = generator.standard_normal((rows, size)).astype(np.float32)
    if draw(st.booleans()):
        logits = np.round(logits * draw(st.sampled_from([0.0, 1.0, 3.0])))
    for value in (-np.inf, np.nan):
        logits[generator.random(logits.shape) < draw(st.sampled_from([0.0, 0.05, 0.999]))] = value
    best = [draw(st.integers(1, best_max(size))) for _ in range(rows)]
    touched = []
    for row in logits:
        high = np.argsort(-np.nan_to_num(row, nan=-np.inf))[: draw(st.integers(0, 40))]
        touched.append(np.concatenate((high, generator.integers(0, size, draw(st.integers(0, 40))))).astype(np.int64))
    return logits, best, touched


@settings(max_examples=at_most(150))
@given(cases(), st.integers(0, 2**32))
def test_the_best_tokens_are_listed_whatever_becomes_of_the_touched_ones(
    case: tuple[NDArray[np.float32], list[int], list[NDArray[np.int64]]], seed: int
) -> None:
    logits, best, touched = case
    generator = np.random.default_rng(seed)
    for row, tokens, count, changed in zip(logits, listed(logits, best, touched), best, touched, strict=True):
        assert tokens == sorted(set(tokens)) and set(changed.tolist()) <= set(tokens)
        after = np.where(np.isnan(row), -np.inf, row)
        after[changed] += generator.normal(0, 100, len(changed))
        kth = np.partition(after, len(after) - count)[len(after) - count]
        missing = np.delete(after, tokens)
        assert len(tokens) >= count
        assert (missing <= kth).all(), "a better token is not on the list"
        assert not (missing == kth).any() or np.sum(after[tokens] >= kth) >= count


@settings(max_examples=at_most(50))
@given(cases())
def test_a_row_has_the_same_list_alone_and_in_company(
    case: tuple[NDArray[np.float32], list[int], list[NDArray[np.int64]]],
) -> None:
    logits, best, touched = case
    alone = [listed(logits[i : i + 1], best[i : i + 1], touched[i : i + 1])[0] for i in range(len(logits))]
    assert listed(logits, best, touched) == alone


def test_a_row_has_the_same_list_beside_one_that_wants_more() -> None:
    logits = np.random.default_rng(2).standard_normal((2, 64 * 200), dtype=np.float32)
    assert listed(logits, [2, 50], [NONE] * 2)[0] == listed(logits[:1], [2], [NONE])[0]


def test_it_is_short() -> None:
    logits = np.random.default_rng(1).standard_normal((8, 151_936), dtype=np.float32)
    assert max(map(len, listed(logits, [40] * 8, [NONE] * 8))) < 60


@pytest.mark.parametrize(("n_vocab", "best"), [(151_936, 593), (32_000, 125), (576, 2), (100, 0)])
def test_small_vocabularies_are_not_worth_a_shortlist(n_vocab: int, best: int) -> None:
    assert best_max(n_vocab) == best
