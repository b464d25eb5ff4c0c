"""appliance.heartbeat"""

from __future__ import annotations

import socket

import pytest

from appliance.heartbeat import Heartbeat, Signs, status_of, stuck
from appliance.systemd import ServiceManager
from appliance.telemetry.snapshot import ModelFigures, Snapshot


def snapshot(*, degraded: tuple[str, ...] = ()) -> Snapshot:
    models = (ModelFigures(id="a", state="ready", running=2, waiting=1), ModelFigures(id="b", state="stopped"))
    return Snapshot(time=0.0, host_name="host", version="1", started=0.0, models=models, degraded=degraded)


@pytest.mark.parametrize(
    ("observed", "signs", "says"),
    [
        (15.0, Signs(recording=60.0), None),
        (15.1, Signs(), "nobody has looked at the appliance for 15 s"),
        (0.0, Signs(recording=61.0), "the audit log has been writing for 61 s"),
        (0.0, Signs(overdue=0.6), "a worker that says nothing was not ended 1 s ago"),
    ],
)
def test_what_does_not_get_on(observed: float, signs: Signs, says: str | None) -> None:
    assert stuck(observed, signs) == says


def test_the_status_is_one_line() -> None:
    assert status_of(snapshot()) == "1 of 2 models loaded, 3 requests"
    assert status_of(snapshot(degraded=("no disk", "x"))) == "1 of 2 models loaded, 3 requests; degraded: no disk"


class Watched:
    """A heartbeat under a watchdog of 12 s whose manager is a socket. said: what has come since the last time."""

    def __init__(self) -> None:
        self.now, self.signs, self.settled = 100.0, Signs(), True
        name = f"\0appliance-heartbeat-{id(self)}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(name)
        self._socket.setblocking(False)
        self._manager = ServiceManager(f"@{name[1:]}", watchdog_seconds=12.0)
        self.heart = Heartbeat(self._manager, lambda: self.signs, lambda: self.settled, lambda: self.now)

    def said(self) -> list[bytes]:
        lines = []
        while True:
            try:
                lines.append(self._socket.recv(4096))
            except BlockingIOError:
                return lines

    def close(self) -> None:
        self._manager.close()
        self._socket.close()


def test_signs_of_life_end_with_the_work_and_come_back_with_it() -> None:
    watched = Watched()
    watched.heart.look(snapshot())
    watched.heart.beat()
    assert watched.said() == [b"WATCHDOG=1", b"STATUS=1 of 2 models loaded, 3 requests"]
    watched.heart.beat()
    assert watched.said() == [b"WATCHDOG=1"]
    watched.now += 16.0
    watched.heart.beat()
    assert watched.said() == [b"STATUS=stuck: nobody has looked at the appliance for 16 s"]
    watched.heart.look(snapshot())
    watched.heart.beat()
    assert watched.said() == [b"WATCHDOG=1", b"STATUS=1 of 2 models loaded, 3 requests"]
    watched.close()


def test_a_start_gets_time_as_long_as_it_gets_on() -> None:
    watched = Watched()
    watched.settled = False
    watched.heart.beat()
    assert watched.said() == [b"WATCHDOG=1", b"EXTEND_TIMEOUT_USEC=60000000"]
    watched.signs = Signs(overdue=1.0)
    watched.heart.beat()
    assert watched.said() == [b"STATUS=stuck: a worker that says nothing was not ended 1 s ago"]
    watched.close()


def test_a_watchdog_is_given_several_chances_and_a_status_is_not_old() -> None:
    watched = Watched()
    assert watched.heart.interval_seconds == 3.0
    alone = Heartbeat(ServiceManager(None), Signs, lambda: True)
    assert alone.interval_seconds == 5.0
    watched.close()


async def test_where_nobody_listens_nothing_beats() -> None:
    await Heartbeat(ServiceManager(None), Signs, lambda: True).run()
