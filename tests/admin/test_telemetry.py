"""What the admin API shows of the running appliance."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from appliance.admin import app
from appliance.admin.handlers.telemetry import without_clients, written
from appliance.state_dir import StateDir
from appliance.telemetry.event_stream import READERS_MAX, EventStream
from appliance.telemetry.metrics import Metrics
from appliance.telemetry.recorder import FlightRecorder
from appliance.telemetry.snapshot import AllowEntryFigures, CertificateFigures, FailureFold, LastAction, Snapshot
from tests.admin.desk import Desk, refused
from tests.unit.telemetry.making import record
from tests.waiting import WAIT_SECONDS_MAX, until

FAILURE = FailureFold(
    time=2.0,
    first=1.0,
    count=3,
    status=401,
    error_code="invalid_api_key",
    address="10.0.0.1",
    request_id="r1",
    principal="ci",
    key_id="k1",
)
SEEN = Snapshot(
    time=3.0,
    host_name="appliance-01",
    version="1",
    started=0.0,
    failures=(FAILURE,),
    certificates=(
        CertificateFigures(name="server", role="server", not_after=9.0),
        CertificateFigures(name="ci", role="client", not_after=9.0),
    ),
    allow_ending=(AllowEntryFigures(name="10.0.0.0/8", until=9.0, addresses=1),),
    last_action=LastAction(time=2.0, action="key.revoke", actor="wang", outcome="ok", resource="k1"),
)


async def test_the_newest_snapshot(state: StateDir) -> None:
    async with Desk.open(state, snapshot=lambda: SEEN) as desk, desk.client() as admin:
        assert msgspec.convert(await admin.get("/snapshot"), Snapshot) == SEEN


async def test_without_a_daemon_there_is_none(desk: Desk) -> None:
    async with desk.client() as admin:
        assert (await refused(admin.get("/snapshot"))).code == "conflict"


def test_a_viewer_learns_of_nobody() -> None:
    seen = without_clients(SEEN)
    text = msgspec.json.encode(seen).decode()
    assert not [word for word in ("ci", "k1", "r1", "10.0.0.1", "10.0.0.0/8", "wang") if f'"{word}"' in text]
    assert (seen.failures[0].count, seen.certificates[0].name) == (3, "server")
    assert seen.last_action is not None and seen.last_action.action == "key.revoke"


async def test_metrics_are_text(state: StateDir) -> None:
    metrics = Metrics([], lambda: SEEN)
    async with Desk.open(state, metrics=metrics) as desk, desk.session() as session:
        answer = await session.get("/admin/v1/metrics")
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert (await answer.read()) == metrics.text()


@pytest.fixture
async def stream(state: StateDir) -> AsyncIterator[tuple[EventStream, Desk]]:
    events = EventStream("run", bare=without_clients)
    async with Desk.open(state, events=events) as desk:
        yield events, desk
        events.close()


async def test_a_client_follows_and_takes_up_again(stream: tuple[EventStream, Desk]) -> None:
    events, desk = stream
    events.saw(record(1))
    events.look(SEEN)
    async with desk.client() as admin:
        following = admin.events()
        first, second = await anext(following), await anext(following)
        assert (first.kind, second.kind) == ("snapshot", "requests")
        assert msgspec.json.decode(first.data, type=Snapshot) == SEEN
        await following.aclose()
        events.look(SEEN)
        resumed = admin.events(after=first.id)
        assert [(await anext(resumed)).id for _ in range(2)] == [second.id, "run-3"]
        await resumed.aclose()


async def test_a_client_follows_what_it_asks_for(stream: tuple[EventStream, Desk]) -> None:
    events, desk = stream
    events.saw(record(1))
    events.look(SEEN)
    async with desk.client() as admin:
        following = admin.events("requests")
        assert (await anext(following)).kind == "requests"
        await following.aclose()
        wrong = admin.events("weather")
        assert "known: snapshot" in str(await refused(anext(wrong)))


async def test_followers_are_bounded(stream: tuple[EventStream, Desk]) -> None:
    events, desk = stream
    events.readers = READERS_MAX
    async with desk.client() as admin:
        assert (await refused(anext(admin.events()))).code == "conflict"
    events.readers = 0


async def test_the_end_of_the_daemon_is_the_end_of_the_stream(stream: tuple[EventStream, Desk]) -> None:
    events, desk = stream
    events.look(SEEN)
    async with desk.client() as admin:
        following = admin.events()
        await anext(following)
        events.close()
        with pytest.raises(StopAsyncIteration):
            await anext(following)


async def test_silence_is_a_lost_stream(stream: tuple[EventStream, Desk]) -> None:
    async with stream[1].client() as admin:
        assert (await refused(anext(admin.events(silence_seconds=0.05)))).code == "unreachable"


async def test_who_does_not_read_is_cut(stream: tuple[EventStream, Desk], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "SLOW_READER_SECONDS", 0.1)
    events, desk = stream
    _, writer = await asyncio.open_unix_connection(str(desk.path), limit=1024)
    writer.write(b"GET /admin/v1/events HTTP/1.1\r\nHost: a\r\n\r\n")
    large = replace(SEEN, notes=("x" * 100_000,) * 10)
    await until(lambda: events.readers)
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while events.readers:
            events.look(large)
            await asyncio.sleep(0.02)
    writer.close()


async def test_what_was_to_be_seen_earlier(state: StateDir, tmp_path: Path) -> None:
    now = datetime.now(UTC).timestamp()
    recorder = FlightRecorder(tmp_path, bytes_max=2**30, clock=lambda: now)
    for second in range(5):
        recorder.look(replace(SEEN, time=now - 4 + second))
    async with Desk.open(state, history=recorder.reader) as desk, desk.client() as admin:
        since = datetime.fromtimestamp(now - 2.5, UTC).isoformat()
        found = await admin.get("/history", since=since)
        assert found["step"] == 1.0
        assert [one["time"] for one in found["snapshots"]] == [now - 2, now - 1, now]
        assert (await refused(admin.get("/history", since="yesterday"))).code == "invalid"
        assert (await refused(admin.get("/history", since=since, until="2020-01-01T00:00:00Z"))).code == "invalid"
    bare = msgspec.json.decode(await asyncio.to_thread(written, recorder.reader, now - 2.5, now, 0.0, True))
    assert [one["time"] for one in bare["snapshots"]] == [now - 2, now - 1, now]
    assert "10.0.0.1" not in str(bare)
    recorder.close()
