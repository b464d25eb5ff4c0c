"""The request log through the admin API: pages, files, usage; who may see names, and that an export is on record."""

from __future__ import annotations

import asyncio
import csv
import io
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec
import pytest

from appliance.admin_client import AdminClient, AdminError
from appliance.state_dir import StateDir
from appliance.telemetry.request_query import PAGE_MAX, Usage, UsageBy
from appliance.telemetry.request_record import RequestRecord
from tests.admin.desk import Desk, refused
from tests.unit.telemetry.making import record, write

NOW = 1_763_600_000


def fill(state: StateDir, count: int = 10) -> list[RequestRecord]:
    """The newest first."""
    records = [
        record(
            n,
            time=NOW + n,
            principal=f"p{n % 2}",
            model="qwen" if n % 3 else None,
            outcome="ok" if n % 3 else "refused",
            status=200 if n % 3 else 429,
            ttft_seconds=0.5 if n % 3 else None,
        )
        for n in range(count)
    ]
    write(state.store, *records)
    return records[::-1]


def read(found: object) -> list[RequestRecord]:
    return msgspec.convert(found, list[RequestRecord])


async def downloaded(admin: AdminClient, **query: str) -> bytes:
    return b"".join([chunk async for chunk in admin.download("/requests/export", **query)])


async def test_pages_follow_on_each_other(state: StateDir, admin: AdminClient) -> None:
    records = fill(state)
    found = await admin.get("/requests")
    assert (read(found["requests"]), found["before"]) == (records, None)
    first = await admin.get("/requests", filter="st:200", limit=2)
    second = await admin.get("/requests", filter="st:200", limit=10, before=first["before"])
    assert read(first["requests"] + second["requests"]) == [one for one in records if one.status == 200]


async def test_what_cannot_be_read_is_said(admin: AdminClient) -> None:
    for query, says in (
        ({"filter": "st>=x"}, "filter: st>=x: 'x' is no number; expected a status, as st>=400"),
        ({"limit": "1001"}, f"limit: expected a whole number from 0 to {PAGE_MAX}"),
        ({"before": "-1"}, "before: expected a whole number"),
    ):
        error = await refused(admin.get("/requests", **query))
        assert error.code == "invalid" and says in str(error)
    assert "expected csv or jsonl" in str(await refused(downloaded(admin, format="xml")))
    assert "by: expected some of principal, model, day" in str(await refused(admin.get("/usage", by="model,model")))


async def test_an_export_is_whole_and_on_record(state: StateDir, admin: AdminClient, desk: Desk) -> None:
    records = fill(state, PAGE_MAX + 7)
    lines = (await downloaded(admin, format="jsonl")).splitlines()
    assert [msgspec.json.decode(line, type=RequestRecord) for line in lines] == records
    data = await downloaded(admin, filter="key:p1 since:2025-11-01")
    rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"))))
    assert [row["id"] for row in rows] == [one.id for one in records if one.principal == "p1"]
    assert await downloaded(admin, filter="st:418", format="jsonl") == b""
    noted = [one for one in await desk.records() if one.action == "requests.export"]
    assert [one.outcome for one in noted] == ["allow", "ok"] * 3
    assert noted[3].details == {"format": "csv", "filter": "key:p1 since:2025-11-01", "records": len(rows)}


async def test_an_export_that_cannot_begin_is_refused(state: StateDir, admin: AdminClient, desk: Desk) -> None:
    (state.store / "requests.db").write_bytes(b"damage" * 1000)
    error = await refused(downloaded(admin))
    assert error.code == "state_error" and "cannot be read" in str(error)
    assert await desk.outcomes("requests.export") == ["allow", "failed"]


async def test_an_export_that_breaks_off_is_no_file(
    state: StateDir, admin: AdminClient, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = fill(state)

    def broken(wanted: object) -> object:
        yield records
        yield records
        Path(state.store / "gone").read_bytes()

    monkeypatch.setattr(desk.site.requests, "all", broken)
    with pytest.raises(AdminError, match="ended the answer early"):
        await downloaded(admin, format="jsonl")
    assert await desk.outcomes("requests.export") == ["allow", "failed"]


async def test_usage_by_what_is_asked_for(state: StateDir, admin: AdminClient) -> None:
    fill(state)
    times = {"since": "2025-11-01T00:00:00+00:00", "until": "2025-12-01T00:00:00+00:00"}
    found = await admin.get("/usage", **times)
    assert found["by"] == ["principal", "model"]
    assert {(row["principal"], row.get("model")): row["requests"] for row in found["rows"]} == {
        ("p0", "qwen"): 3,
        ("p1", "qwen"): 3,
        ("p0", None): 2,
        ("p1", None): 2,
    }
    assert found["total"] == [
        {
            "requests": 10,
            "ok": 6,
            "refused": 4,
            "failed": 0,
            "client_gone": 0,
            "prompt_tokens": 100,
            "cached_tokens": 40,
            "completion_tokens": 50,
            "cached_share": 0.4,
            "ttft_p50": 0.5,
            "ttft_p95": 0.5,
        }
    ]
    days = await admin.get("/usage", by="day", **times)
    assert [row["day"] for row in days["rows"]] == ["2025-11-20"]
    assert (await admin.get("/usage"))["total"] == []


async def test_one_report_is_made_at_a_time(desk: Desk, admin: AdminClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report reads the whole log: many at once would take the threads that everybody's files and locks wait for."""
    under_way, most = 0, 0
    usage = desk.site.requests.usage

    def slow(since: float, until: float, by: Sequence[UsageBy]) -> list[Usage]:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        time.sleep(0.02)
        under_way -= 1
        return usage(since, until, by)

    monkeypatch.setattr(desk.site.requests, "usage", slow)
    await asyncio.gather(*(admin.get("/usage") for _ in range(4)))
    assert most == 1


@pytest.fixture
async def viewer(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AdminClient]:
    # Whoever connects is the one who runs this; here they only look.
    monkeypatch.setattr("appliance.admin.administrator.ALL_ROLES", frozenset({"viewer"}))
    async with desk.client() as client:
        yield client


async def test_a_viewer_sees_figures_and_no_names(state: StateDir, viewer: AdminClient) -> None:
    fill(state)
    assert (await viewer.get("/whoami"))["roles"] == ["viewer"]
    found = await viewer.get("/usage", since="2025-11-01T00:00:00+00:00")
    assert found["by"] == ["model"] and not any("principal" in row for row in found["rows"])
    asked: Sequence[object] = [viewer.get("/usage", by="principal,model"), viewer.get("/requests"), downloaded(viewer)]
    for work in asked:
        assert (await refused(work)).code == "forbidden"  # type: ignore[arg-type]
