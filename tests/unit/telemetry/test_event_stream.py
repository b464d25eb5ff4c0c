"""appliance.telemetry.event_stream"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
from msgspec.structs import replace

from appliance.telemetry import event_stream
from appliance.telemetry.event_stream import KINDS, EventStream
from appliance.telemetry.log_buffer import LogPage
from appliance.telemetry.log_line import LogLine
from appliance.telemetry.snapshot import AlertFigures, Snapshot
from tests.unit.telemetry.making import record

SEEN = Snapshot(time=1.0, host_name="h", version="1", started=0.0)
ALERT = AlertFigures(name="GpuHot", what="0", severity="warning", state="firing", since=1.0, summary="hot")


def stream() -> EventStream:
    return EventStream("run", bare=lambda seen: replace(seen, host_name="-"))


def follow(events: EventStream, after: str = "", *, trusted: bool = True) -> AsyncIterator[bytes]:
    return events.follow(KINDS, after, trusted=trusted, allowed=lambda: True)


async def told(chunks: AsyncIterator[bytes], pieces: int = 2) -> list[tuple[str, str]]:
    """(id, kind) of what comes first, the greeting aside."""
    text = b"".join([await anext(chunks) for _ in range(pieces)]).decode()
    events = [dict(line.partition(": ")[::2] for line in part.split("\n")) for part in text.split("\n\n")]
    return [(one["id"], one["event"]) for one in events if "event" in one]


async def test_a_new_reader_begins_with_the_newest_snapshot() -> None:
    events = stream()
    events.look(SEEN)
    events.saw(record(1))
    events.look(SEEN)
    chunks = follow(events)
    assert await told(chunks) == [("run-2", "snapshot"), ("run-3", "requests")]
    waiting = asyncio.ensure_future(anext(chunks))  # noqa: TID251
    await asyncio.sleep(0)
    assert not waiting.done()
    events.look(SEEN)
    assert b"id: run-4\nevent: snapshot\n" in await waiting


@pytest.mark.parametrize(
    ("after", "first"),
    [("run-1", "run-2"), ("run-3", None), ("run-0", "run-1"), ("run-9", "run-3"), ("other-1", "run-3"), ("x", "run-3")],
)
async def test_a_reader_that_was_here_goes_on(after: str, first: str | None) -> None:
    events = stream()
    for _ in range(3):
        events.look(SEEN)
    found = await told(follow(events, after))
    assert (found[0][0] if found else None) == first


async def test_what_has_left_the_ring_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "EVENTS_MAX", 2)
    events = stream()
    for _ in range(5):
        events.look(SEEN)
    assert [number for number, _ in await told(follow(events, "run-1"))] == ["run-5"]
    monkeypatch.setattr(event_stream, "BYTES_MAX", 1)
    events.look(SEEN)
    assert [number for number, _ in await told(follow(events, "run-5"))] == ["run-6"]


async def test_requests_are_told_together_and_to_the_trusted_alone() -> None:
    events = stream()
    for number in range(event_stream.REQUESTS_MAX + 5):
        events.saw(record(number))
    events.look(SEEN)
    chunks = follow(events)
    await anext(chunks)
    text = await anext(chunks)
    data = text.split(b"event: requests\ndata: ")[1].split(b"\n")[0]
    content = msgspec.json.decode(data)
    assert (len(content["requests"]), content["missed"], content["requests"][0]["id"]) == (1000, 5, "r5")
    assert await told(follow(events, trusted=False)) == [("run-1", "snapshot")]


async def test_the_others_are_told_less() -> None:
    events = stream()
    events.look(SEEN)
    chunks = follow(events, trusted=False)
    await anext(chunks)
    assert b'"host_name":"-"' in await anext(chunks)


async def test_alerts_are_told_of_where_they_change() -> None:
    events = stream()
    for seen in (SEEN, replace(SEEN, alerts=(ALERT,)), replace(SEEN, alerts=(ALERT,)), SEEN):
        events.look(seen)
    kinds = [kind for _, kind in await told(follow(events, "run-0"))]
    assert kinds == ["snapshot", "snapshot", "alerts", "snapshot", "snapshot", "alerts"]


async def test_lines_of_the_log_are_fetched_each_time() -> None:
    asked: list[int] = []

    def page(after: int) -> LogPage:
        asked.append(after)
        line = LogLine(number=7, time=1.0, level="info", logger="x", message="a line")
        return LogPage(lines=(line,) if after == 0 else (), newest=7, dropped=0)

    events = EventStream("run", logs=page)
    events.look(SEEN)
    events.look(SEEN)
    assert asked == [0, 7]
    assert [kind for _, kind in await told(follow(events, "run-0"))] == ["snapshot", "logs", "snapshot"]


async def test_the_end_of_the_daemon_and_of_permission_end_it() -> None:
    events = stream()
    allowed = True
    chunks = [events.follow(KINDS, "", trusted=True, allowed=lambda: allowed) for _ in range(2)]
    for one in chunks:
        await anext(one)
        await anext(one)
    assert events.readers == 2
    allowed = False
    events.look(SEEN)
    with pytest.raises(StopAsyncIteration):
        await anext(chunks[0])
    events.close()
    with pytest.raises(StopAsyncIteration):
        await anext(chunks[1])
    assert events.readers == 0
