"""From outputs to vectors and relevances."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.pooling.vectors import relevance, relevant_label, shortened, to_bytes, unit


def outputs(*values: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.array(values, np.float32)


@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False), min_size=1, max_size=50))
def test_a_unit_vector_has_length_one_or_there_is_none(values: list[float]) -> None:
    found = unit(outputs(*values))
    if found is None:
        assert not any(values)
    else:
        assert np.linalg.norm(found) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_is_no_vector_and_no_relevance(bad: float) -> None:
    assert unit(outputs(1, bad)) is None
    assert relevance(outputs(bad), 0, probabilities=False) is None


def test_a_shortened_vector_has_length_one_again() -> None:
    found = shortened(outputs(0.6, 0.0, 0.8), 2)
    assert found is not None and found.tolist() == [1, 0]
    assert shortened(outputs(0, 1), 1) is None


@given(st.floats(-1e6, 1e6))
def test_a_logit_becomes_a_probability(logit: float) -> None:
    (found,) = relevance(outputs(logit), 0, probabilities=False)  # type: ignore[misc]
    assert 0 <= found <= 1
    if abs(logit) < 30:
        assert found == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-6)


def test_probabilities_stay_and_labels_are_softmaxed() -> None:
    assert relevance(outputs(0.25, 0.75), 0, probabilities=True) == pytest.approx(0.25)
    assert relevance(outputs(0, np.log(3)), 1, probabilities=False) == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("labels", "index"),
    [([], 0), (["LABEL_0"], 0), (["yes", "no"], 0), (["LABEL_0", "LABEL_1"], 1), (["cats", "dogs"], None)],
)
def test_which_label_says_relevant(labels: list[str], index: int | None) -> None:
    assert relevant_label(labels) == index


def test_bytes_are_little_endian_floats() -> None:
    assert to_bytes(outputs(1.0)) == b"\x00\x00\x80\x3f"
