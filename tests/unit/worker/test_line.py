"""Connections over a real line."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator

import pytest

from appliance.models.launcher import stream_over
from appliance.worker.line import Line


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, Line]]:
    """The daemon's end and the worker's."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, Line(theirs)


def test_connections_come_one_after_the_other(ends: tuple[socket.socket, Line]) -> None:
    ours, line = ends
    streams = [stream_over(ours), stream_over(ours)]
    for number, stream in enumerate(streams):
        connection = line.next(5)
        assert connection is not None
        with connection, stream:
            assert not os.get_inheritable(connection.fileno())
            stream.sendall(b"%d" % number)
            assert connection.recv(10) == b"%d" % number


def test_it_ends_with_the_daemons_side_and_with_nothing_else(ends: tuple[socket.socket, Line]) -> None:
    ours, line = ends
    assert not line.has_ended()
    with stream_over(ours):
        assert not line.has_ended()
        first = line.next()
        assert first is not None
        first.close()
    assert not line.has_ended()
    # As long as somebody keeps a copy of that end, somebody may come.
    copy = ours.dup()
    ours.close()
    assert not line.has_ended()
    copy.close()
    assert line.has_ended()
    assert line.next() is None


def test_who_waits_does_not_wait_for_ever(ends: tuple[socket.socket, Line]) -> None:
    _, line = ends
    began = time.monotonic()
    assert line.next(0.02) is None
    assert time.monotonic() - began < 30
    assert not line.has_ended()
