"""tui.live, against the admin API on a real socket"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from appliance.admin_client import AdminClient
from appliance.state_dir import StateDir
from appliance.telemetry.event_stream import EventStream
from appliance.telemetry.recorder import FlightRecorder
from appliance.telemetry.snapshot import Snapshot
from tests.admin.conftest import founded, state
from tests.admin.desk import Desk
from tests.unit.telemetry.making import record, write
from tui.live import LiveSource
from tui.source import SourceLost, Update

__all__ = ["founded", "state"]

SEEN = Snapshot(time=1.0, host_name="h", version="1", started=0.0)


class Watched:
    """An appliance, and what looks at it."""

    def __init__(self, desk: Desk, events: EventStream) -> None:
        self.events = events
        self.source = LiveSource(desk.client, "here", "unix")


@pytest.fixture
async def watched(state: StateDir, tmp_path: Path) -> AsyncIterator[Watched]:
    write(state.store, record(1), record(2))
    events = EventStream("run")
    recorder = FlightRecorder(tmp_path, bytes_max=2**30, clock=lambda: 2e9)
    async with Desk.open(state, events=events, history=recorder.reader) as desk:
        yield Watched(desk, events)
        events.close()
    recorder.close()


async def some(source: LiveSource, count: int) -> list[Update]:
    """The next updates; then the stream is left."""
    updates = source.updates()
    found = [await anext(updates) for _ in range(count)]
    await updates.aclose()  # type: ignore[attr-defined]
    return found


async def test_who_is_looking(watched: Watched) -> None:
    found = await watched.source.identity()
    assert found.via == "unix" and "operator" in found.roles


async def test_the_first_update_has_what_was_before(watched: Watched) -> None:
    watched.events.look(SEEN)
    watched.events.saw(record(2))
    watched.events.saw(record(3))
    watched.events.look(replace(SEEN, time=2.0))
    first, second = await some(watched.source, 2)
    assert first.snapshot is not None and first.snapshot.time == 2.0
    assert [one.id for one in first.requests] == ["r1", "r2"]
    assert [one.id for one in second.requests] == ["r3"], "r2 is known already"


async def test_it_is_taken_up_where_it_was_lost(watched: Watched) -> None:
    watched.events.look(SEEN)
    await some(watched.source, 1)
    watched.events.saw(record(9))
    watched.events.look(replace(SEEN, time=2.0))
    first, second = await some(watched.source, 2)
    assert first.snapshot is not None and first.snapshot.time == 2.0
    assert [one.id for one in (*first.requests, *second.requests)] == ["r9"]


async def test_questions_with_a_query_in_the_path(watched: Watched) -> None:
    assert (await watched.source.ask("/requests?limit=1"))["requests"][0]["id"] == "r2"
    assert await watched.source.history(60) == ()


async def test_an_appliance_that_is_gone(tmp_path: Path) -> None:
    source = LiveSource(lambda: AdminClient.local(tmp_path / "none.sock"), "here", "unix")
    with pytest.raises(SourceLost, match="cannot be reached"):
        await some(source, 1)
