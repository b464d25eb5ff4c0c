"""The request log: a page of it, all of it as a file, and what was used. No text of a request is in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final, get_args

from appliance.admin.route import Answer, Call, Stream
from appliance.audit.record import Outcome
from appliance.errors import ChangeRefused
from appliance.safe_text import safe_text, without_secrets
from appliance.telemetry.request_export import csv_header, csv_lines, json_lines
from appliance.telemetry.request_filter import FilterError, RequestFilter, parse
from appliance.telemetry.request_query import PAGE_MAX, UsageBy
from appliance.telemetry.request_record import RequestRecord

_SEQ_MAX: Final = 2**53
_USAGE_DAYS: Final = 7


async def show(call: Call) -> Answer:
    """The newest records that the filter takes; `before` of the answer is for the next page."""
    wanted, limit = _filter(call), call.number("limit", 100, PAGE_MAX)
    before = call.number("before", 0, _SEQ_MAX) or None
    page = await asyncio.to_thread(call.site.requests.page, wanted, limit=max(1, limit), before=before)
    return call.answer({"requests": page.records, "before": page.before})


async def export(call: Call) -> Stream:
    """All of them, newest first. That it was asked for is on record before anything is sent, and how it ended."""
    wanted, form = _filter(call), call.query.get("format", "csv")
    if form not in ("csv", "jsonl"):
        raise ChangeRefused("invalid", f"format: {form[:40]!r} is none; expected csv or jsonl")
    details: dict[str, str | int] = {"format": form, "filter": safe_text(without_secrets(wanted.text), 256)}
    await call.office.audit.append_durably(call.event("allow", details=details))
    content_type = "text/csv; charset=utf-8" if form == "csv" else "application/jsonl"
    return Stream(_exported(call, wanted, form, details), content_type, call.office.document.generation)


async def _exported(
    call: Call, wanted: RequestFilter, form: str, details: dict[str, str | int]
) -> AsyncIterator[bytes]:
    pages, count, outcome = call.site.requests.all(wanted), 0, "failed"
    head, lines = (csv_header(), csv_lines) if form == "csv" else (b"", json_lines)
    try:
        while (page := await asyncio.to_thread(_next, pages)) is not None:
            count += len(page)
            if chunk := head + await asyncio.to_thread(lines, page):
                yield chunk
            head = b""
        outcome = "ok"
    finally:
        ended: Outcome = "ok" if outcome == "ok" else "failed"
        call.office.audit.append(call.event(ended, details={**details, "records": count}))


def _next(pages: Iterator[Sequence[RequestRecord]]) -> Sequence[RequestRecord] | None:
    return next(pages, None)


async def usage(call: Call) -> Answer:
    """Requests and tokens by principal, model and day, most first, and in all."""
    now = call.office.now()
    until, since = call.time("until") or now, call.time("since")
    since = until - timedelta(days=_USAGE_DAYS) if since is None else since
    knows = call.administrator.knows_clients
    by = _by(call, "principal,model" if knows else "model")
    if "principal" in by and not knows:
        raise ChangeRefused(
            "forbidden", "the role viewer does not see who asked; ask by model or day, or as operator or auditor"
        )
    times = (since.timestamp(), until.timestamp())
    async with call.site.reading_all:
        rows = await asyncio.to_thread(call.site.requests.usage, *times, by)
        total = await asyncio.to_thread(call.site.requests.usage, *times, ())
    return call.answer({"since": _text(since), "until": _text(until), "by": by, "rows": rows, "total": total})


def _by(call: Call, default: str) -> list[UsageBy]:
    known: tuple[UsageBy, ...] = get_args(UsageBy)
    given = call.query.get("by", default).split(",")
    if not set(given) <= set(known) or len(set(given)) < len(given):
        raise ChangeRefused("invalid", f"by: expected some of {', '.join(known)}, with commas")
    return [one for one in known if one in given]


def _filter(call: Call) -> RequestFilter:
    try:
        return parse(call.query.get("filter", ""))
    except FilterError as error:
        raise ChangeRefused("invalid", f"filter: {error}") from error


def _text(moment: datetime) -> str:
    return moment.isoformat()
