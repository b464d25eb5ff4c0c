"""The API's last seconds: what clients with kept connections still get, and how they learn that they must go."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from appliance.api import parting
from tests.api.conftest import Api
from tests.fakes.gate import Gate
from tests.waiting import until


@dataclass
class Line:
    """A connection on which a test sees each byte."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def ask(self, script: str, **fields: object) -> None:
        body = json.dumps({"model": "demo", "prompt": script, **fields}).encode()
        head = f"POST /v1/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer good\r\nContent-Length: {len(body)}"
        self.writer.write(head.encode() + b"\r\n\r\n" + body)

    async def head(self) -> bytes:
        async with asyncio.timeout(60):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def answer(self) -> tuple[bytes, bytes]:
        """Head and body of one that is no stream."""
        head = await self.head()
        (length,) = [int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length")]
        return head, await self.reader.readexactly(length)

    async def rest(self) -> bytes:
        """Until the appliance closes."""
        async with asyncio.timeout(60):
            return await self.reader.read()


@asynccontextmanager
async def connected(api: Api) -> AsyncIterator[Line]:
    host, port = api.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield Line(reader, writer)
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.fixture
def short_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parting, "IDLE_SECONDS", 0.15)


@pytest.fixture
def long_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection is closed because its client is slow to ask."""
    monkeypatch.setattr(parting, "IDLE_SECONDS", 60.0)


@pytest.mark.usefixtures("long_silence")
async def test_what_comes_over_a_kept_connection_is_answered_and_is_the_last(api: Api, gate: Gate) -> None:
    async with connected(api) as line, asyncio.TaskGroup() as tasks:
        line.ask("say:before")
        head, _ = await line.answer()
        assert b"Connection: close" not in head
        stop = tasks.create_task(api.part(60))
        await asyncio.sleep(0.05)
        line.ask(f"say:x {gate.word} say:y")
        await until(lambda: api.router.outstanding)
        assert not stop.done()
        gate.open()
        head, body = await line.answer()
        assert (head.split()[1], json.loads(body)["choices"][0]["text"]) == (b"200", "xy")
        assert b"Connection: close" in head
        assert await line.rest() == b""
    assert stop.done()


@pytest.mark.usefixtures("long_silence")
async def test_a_stream_from_before_ends_and_its_connection_brings_one_more_request(api: Api, gate: Gate) -> None:
    async with connected(api) as line, asyncio.TaskGroup() as tasks:
        line.ask(f"say:a {gate.word} say:b", stream=True)
        assert b"Connection: close" not in await line.head()
        tasks.create_task(api.part(60))
        # Its first step.
        await asyncio.sleep(0)
        gate.open()
        async with asyncio.timeout(60):
            assert (await line.reader.readuntil(b"0\r\n\r\n")).count(b"data: ") >= 3
        line.ask("say:x", stream=True)
        assert b"Connection: close" in await line.head()
        assert b"data: [DONE]" in await line.rest()


@pytest.mark.usefixtures("short_silence")
async def test_one_that_brings_none_is_closed(api: Api) -> None:
    async with connected(api) as line:
        line.ask("say:x")
        await line.answer()
        began = time.monotonic()
        await api.part(60)
        assert 0.1 < time.monotonic() - began < 30
        assert await line.rest() == b""


@pytest.mark.usefixtures("short_silence")
async def test_one_that_has_never_asked_is_closed_too(api: Api) -> None:
    async with connected(api) as line:
        await asyncio.sleep(0.05)
        await api.part(60)
        assert await line.rest() == b""


@pytest.mark.usefixtures("short_silence")
async def test_what_does_not_end_is_waited_for_no_longer_than_there_is_time(api: Api) -> None:
    async with connected(api) as line:
        line.ask("say:x hang", stream=True)
        await line.head()
        began = time.monotonic()
        await api.part(0.3)
        assert 0.2 < time.monotonic() - began < 30
        await api.router.close(api.parting.seconds_left)
        async with asyncio.timeout(60):
            await line.reader.readuntil(b'"code":"shutting_down"')
