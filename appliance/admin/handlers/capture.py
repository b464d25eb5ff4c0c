"""Captured prompts and answers, for auditors: who looks is on record before anything is shown."""

from __future__ import annotations

import asyncio
from typing import Final

from appliance.admin.large_answer import large_answer
from appliance.admin.route import Answer, Call
from appliance.capture.reading import CaptureFilter, find, heads
from appliance.errors import ChangeRefused, StateError
from appliance.keyring.keyring import PurposeCipher

LIST_MAX: Final = 1000


async def index(call: Call) -> Answer:
    """What is known of the newest requests that pass the filter, newest first: no text."""
    wanted = CaptureFilter(principal=call.query.get("principal"), since=call.time("since"))
    count = call.number("count", 100, LIST_MAX)
    # What cannot be recorded is not shown.
    await call.office.audit.append_durably(call.event("allow", wanted.principal))
    try:
        found = await asyncio.to_thread(heads, call.site.state.capture, _cipher(call), wanted, count)
    except OSError as error:
        raise _unreadable(error) from error
    return call.answer(found)


async def show(call: Call) -> Answer:
    """The requests of one id with their text. They are read before the record, which names whose they are."""
    request_id = call.match["request_id"]
    try:
        found = await asyncio.to_thread(find, call.site.state.capture, _cipher(call), request_id)
    except OSError as error:
        raise _unreadable(error) from error
    if not found.records:
        failed = call.event("failed", request_id=request_id, reason="not_found")
        await call.office.audit.append_durably(failed)
        damaged = f"; {found.damaged} records do not open" if found.damaged else ""
        raise ChangeRefused("not_found", f"no captured request has the id {request_id!r}{damaged}")
    whose = sorted({captured.head.principal for captured in found.records})
    count = {"count": len(found.records)}
    await call.office.audit.append_durably(call.event("allow", ", ".join(whose), request_id=request_id, details=count))
    return call.answer(
        await asyncio.to_thread(large_answer, "records", found.records, damaged=found.damaged, more=found.more)
    )


def _cipher(call: Call) -> PurposeCipher:
    return call.site.keyring.cipher("capture")


def _unreadable(error: OSError) -> StateError:
    return StateError(f"captured prompts cannot be read: {error}")
