"""The newest lines of the service log."""

from __future__ import annotations

import asyncio
import difflib
from typing import Final

from appliance.admin.route import Answer, Call
from appliance.errors import ChangeRefused
from appliance.telemetry.log_buffer import PAGE_MAX
from appliance.telemetry.log_line import LEVELS, Level

JOURNAL_COMMAND: Final = "journalctl -u appliance -n 200"
_LIMIT: Final = 200
_NUMBER_MAX: Final = 2**53


async def show(call: Call) -> Answer:
    """Of at least `level`, said since a time or after a line's number; the newest `limit`, oldest first."""
    if (buffer := call.site.log_buffer) is None:
        raise ChangeRefused(
            "conflict", f"no daemon runs here; what the last one said is in the journal: {JOURNAL_COMMAND}"
        )
    level, limit, since = _level(call), call.number("limit", _LIMIT, PAGE_MAX), call.time("since")
    page = await asyncio.to_thread(
        buffer.page,
        level=level,
        limit=max(1, limit),
        since=None if since is None else since.timestamp(),
        after=call.number("after", 0, _NUMBER_MAX),
    )
    return call.answer(page)


def _level(call: Call) -> Level:
    given = call.query.get("level", "debug").lower()
    for level in LEVELS:
        if level == given:
            return level
    near = difflib.get_close_matches(given, LEVELS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(LEVELS)}"
    raise ChangeRefused("invalid", f"level: {given[:40]!r} is none; {hint}")
