"""Every sampling parameter does what its name says, and nothing at its off-value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from appliance.engine.runner.sampler import Sampler
from appliance.types import SamplingParams
from tests.unit.engine.runner.making import FakeTable, distribution, draw_from_all, logits_row, sequence_of

SIZE = 512
ROW = logits_row(SIZE)
# Real tokens follow Zipf's law, which mirostat assumes.
ZIPF = (-1.3 * np.log(np.arange(1, SIZE + 1))).astype(np.float32)
ORDER = np.argsort(-ROW).tolist()
BEST, SECOND, THIRD = ORDER[:3]
OPEN: dict[str, Any] = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "seed": 5}


def drawn(prompt: tuple[int, ...] = (BEST,), **params: Any) -> dict[int, float]:
    return distribution(SamplingParams(**(OPEN | params)), ROW, prompt)


PLAIN = drawn()


def test_with_everything_off_it_is_the_models_distribution() -> None:
    expected = np.exp(ROW - ROW.max()) / np.exp(ROW - ROW.max()).sum()
    assert {token: pytest.approx(expected[token], rel=1e-4) for token in PLAIN} == PLAIN


@pytest.mark.parametrize(
    "off",
    [
        {"dynatemp_range": 0.0, "dynatemp_exponent": 3.0},
        {"top_n_sigma": 0.0},
        {"top_n_sigma": -1.0},
        {"typical_p": 1.0},
        {"xtc_probability": 0.0, "xtc_threshold": 0.01},
        {"min_keep": 7},
        {"repeat_penalty": 1.0, "repeat_last_n": 8},
        {"repeat_penalty": 5.0, "repeat_last_n": 0},
        {"frequency_penalty": 0.0, "presence_penalty": 0.0},
        {"mirostat": 0, "mirostat_tau": 1.0},
        {"adaptive_target": -1.0, "adaptive_decay": 0.1},
        {"logit_bias": {BEST: 0.0}},
    ],
    ids=str,
)
def test_off_values_change_nothing(off: dict[str, Any]) -> None:
    assert drawn(**off) == PLAIN


@pytest.mark.parametrize(
    ("params", "kept"),
    [
        ({"top_k": 3}, 3),
        ({"top_p": 0.0}, 1),
        ({"top_p": 0.0, "min_keep": 4}, 4),
        ({"min_p": 1.0}, 1),
        ({"min_p": 1.0, "min_keep": 2}, 2),
        ({"typical_p": 0.001}, 1),
        ({"typical_p": 0.001, "min_keep": 3}, 3),
        ({"top_k": 5, "min_p": 0.0001}, 5),
    ],
    ids=str,
)
def test_filters_keep_so_many(params: dict[str, Any], kept: int) -> None:
    assert len(drawn(**params)) == kept


def test_top_n_sigma_keeps_what_is_near_the_best() -> None:
    expected = np.flatnonzero(ROW.max() - ROW < 1.5 * ROW.std())
    assert sorted(drawn(top_n_sigma=1.5)) == sorted(set(expected.tolist()) & set(PLAIN))


def test_typical_p_after_forbidden_tokens_is_well_defined() -> None:
    """A probability of zero makes llama.cpp's entropy NaN."""
    kept = drawn(typical_p=0.5, logit_bias={SECOND: -100})
    assert 0 < len(kept) < 100 and SECOND not in kept


def test_xtc_drops_all_but_the_last_of_the_likely() -> None:
    likely = [token for token in ORDER if PLAIN.get(token, 0) >= 0.05]
    assert len(likely) > 1
    assert set(PLAIN) - set(drawn(xtc_probability=1.0, xtc_threshold=0.05)) == set(likely[:-1])


def test_temperature_flattens_and_sharpens() -> None:
    assert drawn(temperature=2.0)[BEST] < PLAIN[BEST] < drawn(temperature=0.5)[BEST]


def test_dynamic_temperature_follows_the_entropy() -> None:
    assert drawn(dynatemp_range=0.9) != PLAIN
    assert drawn(dynatemp_range=0.9, dynatemp_exponent=4.0)[BEST] > drawn(dynatemp_range=0.9)[BEST]


@pytest.mark.parametrize("penalty", [{"repeat_penalty": 2.0}, {"frequency_penalty": 1.0}, {"presence_penalty": 1.0}])
def test_penalties_look_back_on_the_prompt(penalty: dict[str, float]) -> None:
    assert drawn((BEST,), **penalty)[BEST] < PLAIN[BEST]
    assert drawn((BEST, *range(100, 110)), repeat_last_n=10, **penalty).get(BEST) == drawn(
        (7, *range(100, 110)), repeat_last_n=10, **penalty
    ).get(BEST)


def test_frequency_counts_and_presence_does_not() -> None:
    assert drawn((BEST, BEST), frequency_penalty=0.5)[BEST] < drawn((BEST,), frequency_penalty=0.5)[BEST]
    assert drawn((BEST, BEST), presence_penalty=0.5) == drawn((BEST,), presence_penalty=0.5)


def test_negative_penalties_raise() -> None:
    assert drawn((THIRD,), presence_penalty=-2.0)[THIRD] > PLAIN[THIRD]


def test_a_bias_is_added_to_the_logit() -> None:
    shifted = drawn(logit_bias={SECOND: 1.5})
    ratio = shifted[SECOND] / shifted[BEST] / (PLAIN[SECOND] / PLAIN[BEST])
    assert ratio == pytest.approx(np.exp(1.5), rel=1e-3)


@pytest.mark.parametrize("bias", [-100, -1000])
def test_a_bias_of_minus_100_forbids(bias: float) -> None:
    assert BEST not in drawn(logit_bias={BEST: bias})


def test_a_bias_can_force() -> None:
    assert drawn(logit_bias={ORDER[-1]: 1000}) == {ORDER[-1]: 1.0}


@pytest.mark.parametrize("version", [1, 2])
def test_mirostat_cuts_at_the_wanted_surprise_and_replaces_the_filters(version: int) -> None:
    def kept(**params: Any) -> int:
        return len(distribution(SamplingParams(**OPEN, mirostat=version, **params), ZIPF))  # type: ignore[arg-type]

    narrow, wide = kept(mirostat_tau=1.0), kept(mirostat_tau=3.0)
    assert 1 <= narrow < wide < SIZE
    filtered = SamplingParams(**(OPEN | {"top_k": 1, "mirostat": version, "mirostat_tau": 3.0}))
    assert len(distribution(filtered, ZIPF)) == wide


@pytest.mark.parametrize("version", [1, 2])
def test_mirostat_learns_at_its_rate(version: int) -> None:
    def after_a_draw(eta: float) -> int:
        params = SamplingParams(**OPEN, mirostat=version, mirostat_tau=2.0, mirostat_eta=eta)  # type: ignore[arg-type]
        sampler = Sampler(sequence_of(params), FakeTable(SIZE))
        draw_from_all(sampler, ZIPF)
        kept = draw_from_all(sampler, ZIPF)[1]
        sampler.close()
        return len(kept)

    assert after_a_draw(0.0) == len(
        distribution(SamplingParams(**OPEN, mirostat=version, mirostat_tau=2.0), ZIPF)  # type: ignore[arg-type]
    )
    assert after_a_draw(1.0) != after_a_draw(0.0)


def test_adaptive_p_favours_tokens_near_its_target() -> None:
    target = PLAIN[THIRD]
    adapted = drawn(adaptive_target=target, adaptive_decay=0.0)
    assert max(adapted, key=adapted.__getitem__) != BEST
