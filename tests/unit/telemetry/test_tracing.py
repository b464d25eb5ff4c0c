"""Traces on their way to a real collector on loopback, and into a file: batches, bounds, failures, the end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from appliance.telemetry import tracing as tracing_module
from appliance.telemetry.spans import TracedRequest
from appliance.telemetry.trace_context import TraceContext
from appliance.telemetry.trace_sinks import FileSink, HttpSink, NotTaken, TraceSink
from appliance.telemetry.tracing import BATCH_MAX, Tracing
from tests.unit.telemetry.making import record
from tests.waiting import until

SAMPLED = TraceContext(trace_id="a" * 32, span_id="b" * 16, sampled=True)


class Collector:
    """Takes OTLP over HTTP. answers: what it says first, before 200."""

    def __init__(self) -> None:
        self.batches: list[Any] = []
        self.headers: list[dict[str, str]] = []
        self.answers: list[int] = []
        self.url = ""

    @property
    def ids(self) -> list[str]:
        """Of the requests that arrived, in order."""
        return [
            attribute["value"]["stringValue"]
            for batch in self.batches
            for span in batch["resourceSpans"][0]["scopeSpans"][0]["spans"]
            for attribute in span.get("attributes", ())
            if attribute["key"] == "appliance.request_id"
        ]

    async def take(self, http: web.Request) -> web.Response:
        body = await http.read()
        self.headers.append(dict(http.headers))
        status = self.answers.pop(0) if self.answers else 200
        if status == 200:
            self.batches.append(msgspec.json.decode(body))
        return web.json_response({}, status=status)


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    made = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", made.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/traces"
    yield made
    await runner.cleanup()


def request(number: int = 0, trace: TraceContext = SAMPLED) -> TracedRequest:
    return TracedRequest(record=record(number), trace=trace)


def tracing(sink: TraceSink | None, interval_seconds: float = 0.01, **settings: Any) -> Tracing:
    return Tracing(sink, resource={"service.name": "s"}, interval_seconds=interval_seconds, **settings)


@contextlib.asynccontextmanager
async def running(made: Tracing) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(made.run())
        # Its first step: before that a cancelled task has no end either.
        await asyncio.sleep(0)
        try:
            yield
        finally:
            task.cancel()


async def test_requests_reach_a_collector(collector: Collector) -> None:
    made = tracing(HttpSink(collector.url, None, "Bearer x"))
    async with running(made):
        made.ended(request(1))
        made.ended(request(2))
        await until(lambda: made.sent == 2)
    assert collector.ids == ["r1", "r2"]
    assert collector.headers[0]["Content-Type"] == "application/json"
    assert collector.headers[0]["Authorization"] == "Bearer x"


async def test_what_is_left_is_sent_at_the_end(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing_module, "_CLOSE_SECONDS_MAX", 60.0)
    made = tracing(HttpSink(collector.url, None, None), interval_seconds=60)
    async with running(made):
        made.ended(request(1))
    assert collector.ids == ["r1"]


async def test_a_full_batch_does_not_wait(collector: Collector) -> None:
    made = tracing(HttpSink(collector.url, None, None), interval_seconds=60)
    async with running(made):
        for number in range(BATCH_MAX):
            made.ended(request(number))
        await until(lambda: made.sent == BATCH_MAX)


async def test_a_busy_collector_is_asked_again(collector: Collector) -> None:
    collector.answers = [503, 429]
    made = tracing(HttpSink(collector.url, None, None))
    async with running(made):
        made.ended(request(1))
        await until(lambda: made.failure is not None)
        await until(lambda: made.sent == 1)
    assert collector.ids == ["r1"] and made.failure is None and made.dropped == 0


async def test_what_a_collector_refuses_is_left_out(collector: Collector) -> None:
    collector.answers = [400]
    made = tracing(HttpSink(collector.url, None, None))
    async with running(made):
        made.ended(request(1))
        await until(lambda: made.dropped == 1)
        made.ended(request(2))
        await until(lambda: made.sent == 1)
    assert collector.ids == ["r2"]


async def test_nobody_listens(collector: Collector) -> None:
    sink = HttpSink("http://127.0.0.1:1/v1/traces", None, None)
    with pytest.raises(NotTaken) as caught:
        await sink.send(b"{}")
    await sink.close()
    assert caught.value.again
    made = tracing(HttpSink("http://127.0.0.1:1/v1/traces", None, None), queue_max=3)
    for number in range(5):
        made.ended(request(number))
    assert made.dropped == 2
    async with running(made):
        await until(lambda: made.failure is not None)


async def test_what_is_not_sampled_is_not_sent() -> None:
    lost = TraceContext(trace_id="a" * 32, span_id="b" * 16, sampled=False)
    made = tracing(FileSink(Path("/nowhere/at/all"), 1000))
    made.ended(request(1, lost))
    assert not made._queue


async def test_the_sender_decides_else_the_ratio() -> None:
    made = tracing(FileSink(Path("/nowhere/at/all"), 1000), ratio=0.0)
    said = made.trace(f"00-{'a' * 32}-{'b' * 16}-01")
    assert said is not None and said.sampled and said.trace_id == "a" * 32
    drawn = made.trace(None)
    assert drawn is not None and not drawn.sampled
    # A header that is none is as good as no header.
    odd = made.trace("00-xyz")
    assert odd is not None and odd.parent_id is None


async def test_without_a_place_only_traces_of_others_go_on() -> None:
    made = tracing(None)
    assert made.trace(None) is None
    said = made.trace(f"00-{'a' * 32}-{'b' * 16}-01")
    assert said is not None
    made.ended(request(1, said))
    assert not made._queue
    await made.run()


async def test_a_file_of_batches(tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    sink = FileSink(path, bytes_max=100)
    await sink.send(b"x" * 60)
    await sink.send(b"y" * 60)
    await sink.send(b"z")
    assert path.read_bytes() == b"z\n" and path.stat().st_mode & 0o777 == 0o600
    assert path.with_name("traces.jsonl.1").read_bytes() == b"x" * 60 + b"\n" + b"y" * 60 + b"\n"
    path.unlink()
    path.symlink_to("/etc/passwd")
    with pytest.raises(NotTaken):
        await sink.send(b"{}")
