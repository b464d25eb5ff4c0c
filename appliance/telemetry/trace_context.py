"""Which trace a request is part of, by W3C Trace Context. Pure; randomness is an argument.

https://www.w3.org/TR/trace-context/: `traceparent: 00-<trace id>-<span id>-<flags>`. `tracestate` is not passed on: it
belongs to the systems before us.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from msgspec import Struct

HEADER: Final = "traceparent"
_FORM: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_TRACE_BYTES: Final = 16
_SPAN_BYTES: Final = 8
_SAMPLED: Final = 1

# So many random bytes.
RandomBytes = Callable[[int], bytes]


class TraceContext(Struct, frozen=True, kw_only=True):
    """trace_id, span_id: lower-case hex; the span is that of our part of it. parent_id: of who asked, where they said.

    sampled: whether this trace is kept by whoever collects them.
    """

    trace_id: str
    span_id: str
    parent_id: str | None = None
    sampled: bool = False

    def header(self) -> str:
        """For whoever we ask, and for the one who asked."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


def continued(header: str, random: RandomBytes) -> TraceContext | None:
    """Our part of the trace that a header names; None where it is no such header, which counts as none was sent."""
    match = _FORM.fullmatch(header)
    if match is None:
        return None
    version, trace_id, parent_id, flags, rest = match.groups()
    # Later versions may have more; this one may not.
    if version == "ff" or (version == "00" and rest is not None) or not int(trace_id, 16) or not int(parent_id, 16):
        return None
    sampled = bool(int(flags, 16) & _SAMPLED)
    return TraceContext(trace_id=trace_id, span_id=_id(_SPAN_BYTES, random), parent_id=parent_id, sampled=sampled)


def begun(ratio: float, random: RandomBytes) -> TraceContext:
    """A new trace. ratio: which part of them is sampled, 0 to 1; the same id is judged alike everywhere."""
    trace_id = _id(_TRACE_BYTES, random)
    # As OpenTelemetry's TraceIdRatioBased has it: by the last eight bytes.
    sampled = int(trace_id[-16:], 16) < ratio * 2**64
    return TraceContext(trace_id=trace_id, span_id=_id(_SPAN_BYTES, random), sampled=sampled)


def new_span_id(random: RandomBytes) -> str:
    """Of a span within a trace."""
    return _id(_SPAN_BYTES, random)


def _id(size: int, random: RandomBytes) -> str:
    """Never all zeros, which means none."""
    return (random(size).hex().lstrip("0") or "1").zfill(2 * size)
