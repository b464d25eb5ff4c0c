"""Sequences for tests."""

from __future__ import annotations

from appliance.engine.detokenizer import Detokenizer
from appliance.engine.sequence import Sequence
from appliance.types import SamplingParams


def make_sequence(
    number: int, tokens: list[int], *, output_max: int = 8, stop: tuple[str, ...] = (), arrived: float = 0.0
) -> Sequence:
    return Sequence(
        number=number,
        tokens=list(tokens),
        output_max=output_max,
        sampling=SamplingParams(),
        detokenizer=Detokenizer(stop),
        arrived=arrived,
    )
