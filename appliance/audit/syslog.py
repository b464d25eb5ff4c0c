"""RFC 5424 messages, framed by octet counts (RFC 5425 and RFC 6587, 3.4.1); audit records as such. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from appliance.audit.record import StoredRecord

# Facility 13 is "log audit".
_FACILITY: Final = 13
_SEVERITY: Final = {"allow": 6, "ok": 6, "deny": 4, "failed": 3}
# The private enterprise number that RFC 5612 keeps for examples: we have none.
_ENTERPRISE: Final = 32473
_NAME: Final = re.compile(r"[^!-~]")
_ESCAPED: Final = re.compile(r'([\\"\]])')


def syslog_frame(record: StoredRecord, body: bytes, host: str) -> bytes:
    """One framed message: the record's place and verdict as structured data, its canonical JSON as text."""
    fields = {"seq": str(record.seq), "outcome": record.outcome, "principal": record.actor.principal or ""}
    priority = _FACILITY * 8 + _SEVERITY[record.outcome]
    return framed(priority, record.ts, host, record.action, "audit", fields, body)


def framed(
    priority: int, time: str, host: str, message_id: str, kind: str, fields: Mapping[str, str], body: bytes
) -> bytes:
    """One framed message. priority: facility * 8 + severity. time: as RFC 3339, UTC.

    kind: a short ASCII word, of the structured data, which are those of `fields` that say something. body: UTF-8.
    """
    data = " ".join(f'{name}="{_escape(value)}"' for name, value in fields.items() if value)
    origin = f"{_name(host, 255)} appliance - {_name(message_id, 32)}"
    header = f"<{priority}>1 {time} {origin} [{kind}@{_ENTERPRISE} {data}] "
    message = header.encode("utf-8") + body
    return b"%d %b" % (len(message), message)


def _name(text: str, chars_max: int) -> str:
    """Printable ASCII without blanks, as the header's fields must be."""
    return _NAME.sub("?", text)[:chars_max] or "-"


def _escape(value: str) -> str:
    return _ESCAPED.sub(r"\\\1", value)
