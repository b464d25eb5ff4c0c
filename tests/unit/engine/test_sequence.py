"""What a sequence says about itself."""

from __future__ import annotations

from appliance.types import Timings, TokenLogprob, Usage
from tests.unit.engine.making import make_sequence


def test_usage_and_timings() -> None:
    sequence = make_sequence(1, [1, 2, 3], output_max=4, arrived=10.0)
    sequence.started, sequence.cached = 11.0, 2
    sequence.append(7, now=13.0)
    sequence.append(8, now=14.0)
    assert sequence.output_tokens == 2
    assert sequence.output_left == 2
    assert sequence.usage == Usage(prompt_tokens=3, completion_tokens=2, cached_tokens=2)
    assert sequence.timings(now=17.0) == Timings(queue_seconds=1.0, prefill_seconds=2.0, decode_seconds=4.0)


def test_each_token_is_reported_once() -> None:
    sequence = make_sequence(1, [1])
    logprob = TokenLogprob(7, b"x", -0.5)
    sequence.append(7, now=0.0)
    sequence.append(7, now=0.0, logprob=logprob)
    assert [sequence.report(), sequence.report()] == [(2, (logprob,)), (0, ())]
