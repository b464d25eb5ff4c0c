"""A link reads and writes frames on a real socket pair; the other end stands for the worker."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvloop

from appliance.errors import WireError
from appliance.models import launcher as launcher_module
from appliance.models.launcher import SocketLauncher, WorkerLink
from appliance.wire import Abort, Delta, Step, ToWorker, encode, worker_reader


@contextmanager
def link_and_worker() -> Iterator[tuple[WorkerLink, socket.socket]]:
    ours, theirs = socket.socketpair()
    with theirs:
        yield WorkerLink(ours, None), theirs


def step(text: str) -> Step:
    return Step(events=(Delta(number=1, text=text, tokens=1),))


async def test_frames_come_in_order_however_they_are_cut() -> None:
    with link_and_worker() as (link, worker):
        frames = b"".join(encode(step(text)) for text in "abc")
        worker.sendall(frames[:5])
        asyncio.get_running_loop().call_later(0.01, worker.sendall, frames[5:])
        assert await link.receive() == [step("a"), step("b"), step("c")]
        await link.close()


async def test_what_arrives_while_nobody_receives_is_kept_and_a_cancelled_wait_loses_nothing() -> None:
    with link_and_worker() as (link, worker):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(link.receive(), 0.01)
        worker.sendall(encode(step("a")))
        await asyncio.sleep(0.01)
        worker.sendall(encode(step("b")))
        await asyncio.sleep(0.01)
        assert await link.receive() == [step("a"), step("b")]
        await link.close()


async def test_the_last_words_of_a_worker_come_before_its_end() -> None:
    with link_and_worker() as (link, worker):
        worker.sendall(encode(step("last")))
        worker.close()
        link.send(Abort(number=1))  # writing to it fails; what it said counts all the same
        assert await link.receive() == [step("last")]
        assert await link.receive() == []
        assert await link.receive() == []
        assert await link.close() is None


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_worker_that_dies_with_frames_unread_is_noticed(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def scenario() -> None:
        with link_and_worker() as (link, worker):
            worker.sendall(encode(step("first")))
            assert await link.receive() == [step("first")]
            link.send(Abort(number=1))
            worker.sendall(encode(step("last")))
            worker.close()
            async with asyncio.timeout(60):
                assert await link.receive() == [step("last")]
                assert await link.receive() == []
            await link.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(scenario())


async def test_a_link_that_was_killed_ends_though_the_worker_says_nothing() -> None:
    with link_and_worker() as (link, _):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(link.receive(), 0.01)
        link.kill()
        assert await link.receive() == []
        await link.close()


async def test_garbage_raises() -> None:
    with link_and_worker() as (link, worker):
        worker.sendall(b"\xff" * 64)
        with pytest.raises(WireError):
            await link.receive()
        await link.close()


async def test_a_worker_that_reads_slowly_gets_every_frame() -> None:
    with link_and_worker() as (link, worker):
        count = 50_000
        for number in range(count):
            link.send(Abort(number=number))
        got, reader = list[ToWorker](), worker_reader()
        while len(got) < count:
            got += reader.feed(await asyncio.to_thread(worker.recv, 65536))
        assert got == [Abort(number=number) for number in range(count)]
        await link.close()


@contextmanager
def engine_socket(folder: Path, backlog: int = 8) -> Iterator[socket.socket]:
    """As systemd's, whose connections are workers."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(os.fspath(folder / "engine.sock"))
        listening.listen(backlog)
        yield listening


def first_of(line: socket.socket) -> socket.socket:
    """The worker's end of the connection that frames are spoken on."""
    _, (fd,), _, _ = socket.recv_fds(line, 1, 1)
    return socket.socket(fileno=fd)


async def test_a_connection_is_a_worker(tmp_path: Path) -> None:
    with engine_socket(tmp_path) as listening:
        link = await SocketLauncher(tmp_path / "engine.sock").launch()
        link.send(Abort(number=1))
        line, _ = listening.accept()
        with line, first_of(line) as worker:
            assert worker_reader().feed(worker.recv(4096)) == [Abort(number=1)]
            worker.sendall(encode(step("a")))
            assert await link.receive() == [step("a")]
            assert link.pid is None
        assert await link.receive() == []
        assert await link.close() is None


async def test_a_worker_of_somebody_else_is_closed_when_it_has_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its memory is free only then, and the next load counts on that."""
    monkeypatch.setattr(launcher_module, "EXIT_SECONDS_MAX", 60.0)
    with engine_socket(tmp_path) as listening:
        link = await SocketLauncher(tmp_path / "engine.sock").launch()
        line, _ = listening.accept()
        worker = first_of(line)
        async with asyncio.TaskGroup() as tasks:
            receiving = tasks.create_task(link.receive())
            await asyncio.sleep(0)
            link.kill()
            assert await receiving == []
            closing = tasks.create_task(link.close())
            assert await asyncio.to_thread(worker.recv, 1) == b""
            assert await asyncio.to_thread(line.recv, 1) == b""
            worker.sendall(encode(step("last words")))
            await asyncio.sleep(0.01)
            assert not closing.done()
            worker.close()
            assert await closing is None
            line.close()


async def test_where_no_worker_can_be_had_the_reason_is_told(tmp_path: Path) -> None:
    launcher = SocketLauncher(tmp_path / "engine.sock")
    with pytest.raises(FileNotFoundError, match="no engine worker: No such file or directory"):
        await launcher.launch()
    with engine_socket(tmp_path, backlog=0):
        links = [await launcher.launch()]
        with pytest.raises(BlockingIOError, match="no engine worker: Resource temporarily unavailable"):
            links.append(await launcher.launch())
    for link in links:
        await link.close()
