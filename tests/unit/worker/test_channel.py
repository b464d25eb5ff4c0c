"""Frames over a real socket pair."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from appliance.errors import WireError
from appliance.wire import Abort, Step, daemon_reader, encode
from appliance.worker.channel import Channel


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_messages_until_the_end(sockets: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = sockets
    frames = encode(Abort(number=1)) + encode(Abort(number=2))
    messages = Channel(theirs).messages(wake_seconds=0.01)
    ours.sendall(frames[:-1])
    assert next(messages) == Abort(number=1)
    assert next(messages) is None, "wakes up while nothing comes"
    ours.sendall(frames[-1:])
    assert next(messages) == Abort(number=2)
    ours.close()
    assert list(messages) == []


def test_garbage_is_an_error(sockets: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = sockets
    ours.sendall(b"\xff" * 8)
    with pytest.raises(WireError):
        next(Channel(theirs).messages(wake_seconds=1))


def test_send(sockets: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = sockets
    channel = Channel(theirs)
    before = channel.last_sent
    channel.send(Step(running=3))
    assert daemon_reader().feed(ours.recv(1000)) == [Step(running=3)]
    assert channel.last_sent > before
    ours.close()
    with pytest.raises(OSError):
        channel.send(Step())


def test_what_is_said_between_two_daemons_is_nobodys(sockets: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = sockets
    channel = Channel(theirs, lasting=True)
    ours.sendall(encode(Abort(number=1))[:-1])
    ours.close()
    assert list(channel.messages(wake_seconds=1)) == []
    channel.send(Step(running=1))
    second, its = socket.socketpair()
    with second:
        channel.replace(its)
        channel.send(Step(running=2))
        assert daemon_reader().feed(second.recv(1000)) == [Step(running=2)]
        second.sendall(encode(Abort(number=2)))
        assert next(channel.messages(wake_seconds=1)) == Abort(number=2), "half a frame of the other is forgotten"
    its.close()
