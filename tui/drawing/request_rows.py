"""Requests as rows: what each column shows of a record. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.telemetry.request_record import RequestRecord
from tui import units
from tui.drawing.failures import SHORT_CODES, status_role
from tui.lines import Line, Role, Span, fit, line, shorten
from tui.look import Look

WIDE_COLUMNS = (
    ("TIME", 8),
    ("ST", 3),
    ("METHOD", 6),
    ("PATH", 20),
    ("MODEL", 17),
    ("KEY", 14),
    ("CLIENT", 14),
    ("IN", 6),
    ("OUT", 5),
    ("QUEUE", 5),
    ("TTFT", 5),
    ("ITL", 5),
    ("DUR", 6),
    ("FINISH", 6),
    ("ERROR", 14),
)
RIGHT = frozenset(("IN", "OUT", "QUEUE", "TTFT", "ITL", "DUR"))


def cell(record: RequestRecord, column: str, look: Look) -> str:
    """What one column shows of a request."""
    match column:
        case "TIME":
            return units.clock(record.time + record.total_seconds, look.zone)
        case "ST":
            return str(record.status) if record.status else "499"
        case "METHOD":
            return record.method
        case "PATH":
            return record.path
        case "MODEL":
            return record.model or units.NONE
        case "KEY":
            return look.name(record.principal, record.key_id)
        case "CLIENT":
            return record.address
        case "IN":
            return str(record.prompt_tokens)
        case "OUT":
            return str(record.completion_tokens)
        case "QUEUE":
            return units.bare_seconds(record.queue_seconds)
        case "TTFT":
            return units.bare_seconds(record.ttft_seconds)
        case "ITL":
            return units.seconds(token_seconds(record))
        case "DUR":
            return units.bare_seconds(record.total_seconds)
        case "FINISH":
            return _finish(record)
        case _:
            return error_of(record)


def token_seconds(record: RequestRecord) -> float | None:
    """Time of one token after the first."""
    if record.decode_seconds is None or record.completion_tokens < 2:
        return None
    return record.decode_seconds / (record.completion_tokens - 1)


def error_of(record: RequestRecord) -> str:
    """Why it failed; empty where it did not."""
    if record.error_code is not None:
        return SHORT_CODES.get(record.error_code, record.error_code)
    return "client_closed" if record.outcome == "client_gone" else ""


def failed(record: RequestRecord) -> bool:
    """Whether it ended as it should not."""
    return record.outcome != "ok"


def role_of(record: RequestRecord, column: str) -> Role:
    """How a cell is shown."""
    if column in ("ST", "ERROR"):
        return status_role(record.status or 499)
    return ""


def request_head(columns: Sequence[tuple[str, int]], look: Look) -> Line:
    """The titles over such rows."""
    said = " ".join(fit(look.say(name), width, "right" if name in RIGHT else "left") for name, width in columns)
    return line((f"  {said}", "head"))


def request_line(record: RequestRecord, columns: Sequence[tuple[str, int]], look: Look) -> Line:
    """One request in columns of these widths."""
    spans: list[Span] = [("  ", "")]
    for name, width in columns:
        text = shorten(cell(record, name, look), width, look.glyphs.cut)
        spans.append((fit(text, width, "right" if name in RIGHT else "left") + " ", role_of(record, name)))
    return tuple(spans)


def _finish(record: RequestRecord) -> str:
    if record.finish_reason is not None:
        return "tool" if record.finish_reason == "tool_calls" else record.finish_reason
    return "error" if failed(record) else units.NONE
