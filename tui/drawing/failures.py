"""The last failures, folded by cause and client. Pure."""

from __future__ import annotations

from appliance.telemetry.snapshot import FailureFold
from tui import units
from tui.lines import Line, Role, fit, fitted, line, shorten
from tui.look import Look

# What operators call them, where the code is long.
SHORT_CODES = {
    "context_length_exceeded": "ctx_overflow",
    "invalid_api_key": "bad_key",
    "missing_api_key": "no_key",
    "too_many_requests": "rate_limited",
    "deadline_exceeded": "timeout",
    "model_unavailable": "model_unavail",
    "address_not_allowed": "addr_denied",
}


def status_role(status: int) -> Role:
    """How a status is shown."""
    return "bad" if status >= 500 else "warn" if status >= 400 else ""


def failure_line(failure: FailureFold, width: int, look: Look, *, selected: bool) -> Line:
    """One kind of failure."""
    cut = look.glyphs.cut
    extra = max(0, width - 78) // 3

    def cell(text: str, wide: int) -> str:
        return fit(shorten(text, wide, cut), wide) + " "

    error = cell(SHORT_CODES.get(failure.error_code, failure.error_code), 12 + extra)
    who = cell(look.name(failure.principal, failure.key_id), 12 + extra)
    model = cell(failure.model or units.NONE, 10 + extra)
    count = f"x{failure.count}" if failure.count > 1 else ""
    drawn = line(
        (">" if selected else " ") + units.clock(failure.time, look.zone) + " ",
        (f"{failure.status} ", status_role(failure.status)),
        error,
        model,
        who,
        cell(failure.address, 10),
        f"{shorten(failure.request_id, 10, cut)} {count}",
    )
    return tuple((text, "cursor") for text, _ in fitted(drawn, width)) if selected else fitted(drawn, width)
