"""The answer to a prompt that is looked at instead of answered."""

from __future__ import annotations

from typing import Final

from appliance.types import Timings, Usage
from appliance.wire import Event, Finished, PromptRead

_NO_USAGE: Final = Usage(prompt_tokens=0, completion_tokens=0)
_NO_TIMINGS: Final = Timings(queue_seconds=0.0, prefill_seconds=0.0, decode_seconds=0.0)


def looked_at(read: PromptRead) -> tuple[Event, ...]:
    """What was read, and the end."""
    return read, Finished(number=read.number, reason="stop", usage=_NO_USAGE, timings=_NO_TIMINGS)
