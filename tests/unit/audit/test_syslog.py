"""appliance.audit.syslog"""

from __future__ import annotations

import pytest

from appliance.audit.record import Actor, AuditEvent, decode_body, encode_body
from appliance.audit.syslog import syslog_frame
from tests.unit.audit.making import MovableClock


def frame(event: AuditEvent, host: str = "host") -> bytes:
    body = encode_body(event, seq=7, moment=MovableClock().moment(), epoch=0, prev="0" * 64)
    return syslog_frame(decode_body(body), body, host)


@pytest.mark.parametrize(("outcome", "priority"), [("allow", 110), ("ok", 110), ("deny", 108), ("failed", 107)])
def test_a_message_is_as_the_standard_says(outcome: str, priority: int) -> None:
    event = AuditEvent(action="key.rotate", outcome=outcome, actor=Actor(principal="user:alice"))  # type: ignore[arg-type]
    length, _, message = frame(event).partition(b" ")
    assert int(length) == len(message)
    assert message.startswith(
        f"<{priority}>1 2026-11-25T12:00:00.000000Z host appliance - key.rotate "
        f'[audit@32473 seq="7" outcome="{outcome}" principal="user:alice"] {{"action"'.encode()
    )


def test_no_text_breaks_out_of_its_field() -> None:
    hostile = Actor(principal='a"] x\\\n\u2028')
    message = frame(AuditEvent(action="bad name\n\u2028" * 9, outcome="ok", actor=hostile), "host name\n")
    assert message.count(b"\n") == 1  # inside the escaped parameter; frames are counted, not split
    assert b" host?name? appliance - " in message
    assert b'principal="a\\"\\] x\\\\' in message
