"""Rows of logits and a vocabulary without a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from appliance.engine.runner.candidates import Candidates
from appliance.engine.runner.sampler import Sampler
from appliance.engine.sequence import Sequence
from appliance.types import SamplingParams
from tests.unit.engine.making import make_sequence


@dataclass(frozen=True)
class FakeTable:
    """Tokens without a model; token n is written `<n>`."""

    size: int
    ends: frozenset[int] = frozenset()
    suppressed: frozenset[int] = frozenset()
    pieces: Mapping[int, bytes] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pieces", {token: f"<{token}>".encode() for token in range(self.size)})


def logits_row(size: int, seed: int = 0) -> NDArray[np.float32]:
    """Logits that look like a language model's, no two equal."""
    row = np.linspace(-12, 6, size, dtype=np.float32) ** 3 / 40
    return np.random.default_rng(seed).permutation(row)


def sequence_of(params: SamplingParams, number: int = 1, prompt: tuple[int, ...] = (1,)) -> Sequence:
    sequence = make_sequence(number, list(prompt))
    sequence.sampling = params
    return sequence


def draw_from_all(sampler: Sampler, row: NDArray[np.float32]) -> tuple[int, dict[int, float]]:
    """What llama.cpp itself draws from the whole vocabulary: the token, and all it could have been."""
    candidates = Candidates(np.arange(len(row)), row, np.array([len(row)]))
    candidates.apply(0, sampler.chain.native)
    (token,) = candidates.chosen()
    tokens, probabilities = candidates.left(0)
    return token, {int(each): float(p) for each, p in zip(tokens, probabilities, strict=True) if p > 0}


def distribution(params: SamplingParams, row: NDArray[np.float32], prompt: tuple[int, ...] = (1,)) -> dict[int, float]:
    """The probabilities that the first token would be drawn with."""
    sampler = Sampler(sequence_of(params, prompt=prompt), FakeTable(len(row)))
    try:
        return draw_from_all(sampler, row)[1]
    finally:
        sampler.close()
