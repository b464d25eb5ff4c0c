"""What is known, how fresh it is, and what is held back."""

from __future__ import annotations

from appliance.telemetry.snapshot import AlertFigures, Snapshot
from tui.board import Board
from tui.demo.scenario import scenario_of
from tui.demo.world import World
from tui.source import Update

WORLD = World(1, scenario_of("calm"), 1000.0)


def board(*, recorded: bool = False) -> Board:
    return Board("somewhere", recorded=recorded, interval=1.0, read_only=False)


def test_data_gets_old() -> None:
    made = board()
    assert made.state(0.0) == "WAITING"
    made.take(Update(snapshot=WORLD.snapshot(1000.0)), 10.0)
    assert made.state(10.5) == "LIVE"
    assert made.state(13.0) == "STALE"


def test_a_lost_source_says_so_until_it_is_back() -> None:
    made = board()
    made.take(Update(snapshot=WORLD.snapshot(1000.0)), 10.0)
    made.lose("refused", 14.0)
    assert made.state(10.1) == "NO DATA"
    made.take(Update(snapshot=WORLD.snapshot(1001.0)), 15.0)
    assert made.state(15.0) == "LIVE"


def test_pausing_holds_what_is_shown_and_counts_what_comes() -> None:
    made = board()
    made.take(Update(snapshot=WORLD.snapshot(1000.0)), 10.0)
    made.pause(True)
    new = tuple(WORLD.requests(1001))
    later = WORLD.snapshot(1001.0)
    made.take(Update(snapshot=later, requests=new), 11.0)
    assert (made.state(11.0), made.waiting, made.new_requests()) == ("PAUSED", len(new), [])
    assert made.snapshot is not None
    assert made.snapshot.time == 1000.0
    made.pause(False)
    assert made.snapshot is later
    assert made.new_requests() == list(new)
    assert made.new_requests() == []


def test_a_recording_is_never_live() -> None:
    made = board(recorded=True)
    made.take(Update(snapshot=WORLD.snapshot(1000.0)), 10.0)
    assert made.state(10.0) == "REPLAY"


def test_the_past_comes_before_what_is_there() -> None:
    made = board()
    made.take(Update(snapshot=WORLD.snapshot(1000.0)), 10.0)
    made.recall([WORLD.snapshot(900.0), WORLD.snapshot(950.0), WORLD.snapshot(1000.0)])
    assert [point.time for point in made.trend] == [900.0, 950.0, 1000.0]


def test_acknowledging_hides_no_critical_alert() -> None:
    def alert(name: str, severity: str, state: str, since: float) -> AlertFigures:
        return AlertFigures(name=name, what="x", severity=severity, state=state, since=since, summary="")  # type: ignore[arg-type]

    made = board()
    alerts = (
        alert("A", "warning", "firing", 5.0),
        alert("B", "critical", "acked", 1.0),
        alert("C", "warning", "acked", 9.0),
        alert("D", "critical", "resolved", 9.0),
    )
    made.take(Update(snapshot=Snapshot(time=1.0, host_name="a", version="1", started=0.0, alerts=alerts)), 0.0)
    assert [one.name for one in made.firing] == ["B", "A"]
