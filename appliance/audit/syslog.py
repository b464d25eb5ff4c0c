"""Audit records as RFC 5424 messages, framed by octet counts (RFC 5425 and RFC 6587, 3.4.1). Pure."""

from __future__ import annotations

import re
from typing import Final

from appliance.audit.record import StoredRecord

# Facility 13 is "log audit".
_FACILITY: Final = 13
_SEVERITY: Final = {"allow": 6, "ok": 6, "deny": 4, "failed": 3}
# The private enterprise number that RFC 5612 keeps for examples: we have none.
_SD_ID: Final = "audit@32473"
_NAME: Final = re.compile(r"[^!-~]")
_ESCAPED: Final = re.compile(r'([\\"\]])')


def syslog_frame(record: StoredRecord, body: bytes, host: str) -> bytes:
    """One framed message: the record's place and verdict as structured data, its canonical JSON as text."""
    priority = _FACILITY * 8 + _SEVERITY[record.outcome]
    fields = {"seq": str(record.seq), "outcome": record.outcome, "principal": record.actor.principal or ""}
    data = " ".join(f'{name}="{_escape(value)}"' for name, value in fields.items() if value)
    header = f"<{priority}>1 {record.ts} {_name(host, 255)} appliance - {_name(record.action, 32)} [{_SD_ID} {data}] "
    message = header.encode("utf-8") + body
    return b"%d %b" % (len(message), message)


def _name(text: str, chars_max: int) -> str:
    """Printable ASCII without blanks, as the header's fields must be."""
    return _NAME.sub("?", text)[:chars_max] or "-"


def _escape(value: str) -> str:
    return _ESCAPED.sub(r"\\\1", value)
