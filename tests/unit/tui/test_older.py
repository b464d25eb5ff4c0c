"""Older requests, page by page."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

import msgspec
import pytest

from appliance.errors import ApplianceError
from appliance.telemetry.request_filter import parse
from appliance.telemetry.request_record import RequestRecord
from tui.demo.scenario import scenario_of
from tui.demo.world import World
from tui.older import Older

NOW = 1_800_000_000.0


def some(count: int) -> list[RequestRecord]:
    """Newest first, each ended a second before the one above."""
    made = next(World(1, scenario_of("calm"), NOW).requests(int(NOW)))
    return [
        msgspec.structs.replace(made, id=f"req_{number}", time=NOW - number, total_seconds=0.5)
        for number in range(count)
    ]


class Log:
    """A request log: pages of two that say where the next begins, as the admin API does."""

    def __init__(self, records: list[RequestRecord]) -> None:
        self.records = records
        self.asked: list[dict[str, str]] = []

    async def __call__(self, path: str) -> Any:
        name, _, text = path.partition("?")
        assert name == "/requests"
        query = dict(parse_qsl(text))
        self.asked.append(query)
        wanted, first = parse(query["filter"]), int(query.get("before", 0))
        page = [one for one in self.records[first : first + 2] if wanted.matches(one, NOW)]
        more = first + 2 if first + 2 < len(self.records) else None
        return {"requests": msgspec.to_builtins(page), "before": more}


async def ids(older: Older) -> list[str]:
    return [record.id for record in await older.page()]


async def test_it_goes_on_where_the_list_ends_without_repeating_it() -> None:
    records = some(7)
    log = Log(records)
    oldest = records[2]
    older = Older(log, "", oldest.time + oldest.total_seconds, records[:3])
    # `until` lets the newest two pass too, but they are known.
    assert await ids(older) == ["req_3"]
    assert await ids(older) == ["req_4", "req_5"]
    assert await ids(older) == ["req_6"]
    assert await ids(older) == []
    assert len(log.asked) == 4


async def test_pages_that_find_nothing_are_not_the_end() -> None:
    records = some(9)
    log = Log(records)
    older = Older(log, "id:req_8", NOW + 1, [])
    assert await ids(older) == ["req_8"]
    assert len(log.asked) == 5


async def test_the_filter_is_asked_of_the_log_with_the_moment_that_the_list_reaches_back_to() -> None:
    log = Log(some(3))
    await Older(log, 'st>=400 "a b"', NOW, []).page()
    assert log.asked[0]["filter"] == 'st>=400 "a b" until:2027-01-15T08:00:01+00:00'
    parse(log.asked[0]["filter"])


async def test_a_copy_is_not_what_it_is_a_copy_of() -> None:
    records = some(2)
    copied = msgspec.structs.replace(records[1], mirrored=True)
    older = Older(Log([records[0], copied, records[1]]), "", NOW + 1, [records[1]])
    found = [*await older.page(), *await older.page()]
    assert [(one.id, one.mirrored) for one in found] == [("req_0", False), ("req_1", True)]


async def test_what_the_appliance_refuses_is_raised() -> None:
    async def refuse(path: str) -> Any:
        raise ApplianceError("requests.list needs the role operator")

    with pytest.raises(ApplianceError, match="needs the role"):
        await Older(refuse, "", NOW, []).page()
