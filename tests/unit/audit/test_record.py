"""appliance.audit.record"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.audit.record import (
    DETAILS_MAX,
    LINE_BYTES_MAX,
    TEXT_CHARS_MAX,
    VERSION,
    Actor,
    AuditEvent,
    Moment,
    bounded,
    decode_body,
    encode_body,
    format_time,
    join_line,
    parse_time,
    split_line,
    to_microseconds,
)
from tests.unit.audit.making import NOON, event, to_datetime

MOMENT = Moment(NOON, 17, "boot00000001")


def encoded(event: AuditEvent) -> bytes:
    return encode_body(event, seq=7, moment=MOMENT, epoch=3, prev="ab" * 32)


INJECTIONS = [
    'a\n{"seq":8}',
    "\r\nforged line",
    "\x1b[2J\x1b[31mred",
    "\u2028next\u2029",
    "\x85next",
    "tab\there",
    '"},{"x":"',
    "\ud800 lone",
    "\x7f\x00\x08",
    "\u202ereversed",
    "😀",
]


@pytest.mark.parametrize("text", INJECTIONS)
def test_text_of_a_client_stays_one_printable_line(text: str) -> None:
    hostile = AuditEvent(
        action=text,
        outcome="deny",
        actor=Actor(principal=text, role=text, credential=text, address=text),
        resource=text,
        reason=text,
        request_id=text,
        details={text: text},
    )
    body = encoded(hostile)
    assert all(0x20 <= byte < 0x7F for byte in body)
    assert decode_body(body).resource == text.encode("utf-8", "backslashreplace").decode().replace("\x7f", "\\x7f")


@given(st.text(alphabet=st.characters(codec=None), max_size=600), st.text(max_size=600))
def test_any_text_makes_one_line_that_reads_back(text: str, name: str) -> None:
    body = encoded(AuditEvent(action="a", outcome="ok", resource=text, details={name: text}))
    line = join_line(body, bytes(32))
    assert line.count(b"\n") == 1 and line.isascii() and len(line) < LINE_BYTES_MAX
    assert split_line(line) == (body, b"0" * 64)
    assert decode_body(body).seq == 7


@given(st.text(alphabet=st.characters(codec=None), max_size=600))
def test_bounded_text_is_short_and_tells_its_length(text: str) -> None:
    short = bounded(text)
    assert len(short) <= TEXT_CHARS_MAX
    short.encode()
    if len(text) > TEXT_CHARS_MAX:
        assert short.endswith(f"...[{len(text)} characters]")


def test_the_body_is_canonical() -> None:
    for one in (event(1, b="x", a=2), event(2, name="ü\u2028\x1b\b\f")):
        body = encoded(one)
        again = json.dumps(json.loads(body), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        assert body == again.encode()
    assert json.loads(body)["v"] == VERSION


def test_the_largest_record_fits_a_line() -> None:
    wide = "😀" * 5000
    largest = AuditEvent(
        action=wide,
        outcome="deny",
        actor=Actor(principal=wide, role=wide, credential=wide, address=wide, uid=2**80),
        resource=wide,
        reason=wide,
        request_id=wide,
        tokens=(2**80, -(2**80)),
        milliseconds=2**80,
        details={f"{number}{wide}": wide for number in range(1000)},
    )
    body = encoded(largest)
    assert len(body) + 66 < LINE_BYTES_MAX
    record = decode_body(body)
    assert len(record.details) == DETAILS_MAX
    assert record.details["..."] == f"{1000 - DETAILS_MAX + 1} more"
    assert record.milliseconds == 2**63 - 1


@pytest.mark.parametrize(
    "wrong",
    [
        AuditEvent(action=3, outcome="ok"),  # type: ignore[arg-type]
        AuditEvent(action="a", outcome="maybe"),  # type: ignore[arg-type]
        AuditEvent(action="a", outcome="ok", details={"x": object()}),  # type: ignore[dict-item]
        AuditEvent(action="a", outcome="ok", details=["x"]),  # type: ignore[arg-type]
        AuditEvent(action="a", outcome="ok", tokens=(1,)),  # type: ignore[arg-type]
        AuditEvent(action="a", outcome="ok", milliseconds=float("inf")),  # type: ignore[arg-type]
        AuditEvent(action="a", outcome="ok", actor="alice"),  # type: ignore[arg-type]
        None,
    ],
)
def test_a_wrong_event_is_recorded_as_such(wrong: Any) -> None:
    record = decode_body(encoded(wrong))
    assert (record.action, record.outcome) == ("audit.malformed", "failed")
    assert "error" in record.details


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2200, 1, 1), timezones=st.just(UTC)))
def test_times_are_exact(time: datetime) -> None:
    micros = to_microseconds(time)
    assert to_datetime(micros) == time
    assert parse_time(format_time(micros)) == micros
    assert len(format_time(micros)) == 27


@pytest.mark.parametrize("text", ["", "2026-11-25", "2026-11-25T12:00:00.000000+", "2026-11-25T12:00:00.00000xZ"])
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_time(text)


@pytest.mark.parametrize("line", [b"", b"\n", b"{}\n", b"{}\t00\n", b"{}\t" + b"0" * 64, b"\t" + b"0" * 63 + b"\n"])
def test_other_lines_are_no_records(line: bytes) -> None:
    assert split_line(line) is None
