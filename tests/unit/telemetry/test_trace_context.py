"""W3C Trace Context: what counts as a traceparent, and what is made of it."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.telemetry.trace_context import TraceContext, begun, continued

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
dice = random.Random(7).randbytes


@pytest.mark.parametrize(("flags", "sampled"), [("00", False), ("01", True), ("03", True), ("02", False)])
def test_a_trace_goes_on(flags: str, sampled: bool) -> None:
    found = continued(f"00-{TRACE}-{SPAN}-{flags}", dice)
    assert found is not None
    assert (found.trace_id, found.parent_id, found.sampled) == (TRACE, SPAN, sampled)
    assert found.span_id != SPAN and len(found.span_id) == 16


def test_a_later_version_may_have_more() -> None:
    assert continued(f"cc-{TRACE}-{SPAN}-01-what-ever", dice) is not None
    assert continued(f"cc-{TRACE}-{SPAN}-01what", dice) is None
    assert continued(f"cc-{TRACE}-{SPAN}-01", dice) is not None


@pytest.mark.parametrize(
    "header",
    [
        "",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-0a",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f" 00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n",
        f"00-{TRACE}-{SPAN}-0g",
    ],
)
def test_what_is_none(header: str) -> None:
    assert continued(header, dice) is None


@given(st.text(max_size=60))
def test_nothing_breaks_it(header: str) -> None:
    continued(header, dice)


def test_a_header_is_read_as_it_was_written() -> None:
    ours = TraceContext(trace_id=TRACE, span_id=SPAN, sampled=True)
    theirs = continued(ours.header(), dice)
    assert theirs is not None and (theirs.trace_id, theirs.parent_id, theirs.sampled) == (TRACE, SPAN, True)


def test_sampling_by_ratio() -> None:
    drawn = [begun(0.25, dice) for _ in range(2000)]
    assert 400 < sum(one.sampled for one in drawn) < 600
    assert not any(begun(0.0, dice).sampled for _ in range(100))
    assert all(begun(1.0, dice).sampled for _ in range(100))
    assert all(one.parent_id is None and len(one.trace_id) == 32 for one in drawn)


def test_no_id_is_all_zeros() -> None:
    found = begun(1.0, bytes)
    assert int(found.trace_id, 16) and int(found.span_id, 16) and len(found.trace_id) == 32
