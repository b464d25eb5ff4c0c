"""All that the dashboard knows at the moment. The app's message handlers are its only writers; screens read it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

from appliance.telemetry.request_record import RequestRecord
from appliance.telemetry.snapshot import AlertFigures, Snapshot
from tui.lines import Role
from tui.replay import Replay
from tui.source import Identity, LogLine, Surroundings, Update

# Data of this many intervals is stale.
STALE_INTERVALS: Final = 3
REQUESTS_MAX: Final = 10_000
LOG_LINES_MAX: Final = 20_000
TREND_SECONDS: Final = 3600.0
TREND_POINTS_MAX: Final = 7200

T = TypeVar("T")
State = Literal["WAITING", "LIVE", "PAUSED", "STALE", "NO DATA", "REPLAY"]


@dataclass(frozen=True, slots=True)
class Point:
    """What the charts show of one snapshot: 95th percentiles, in seconds. ready: the models that were."""

    time: float
    ttft: float | None
    token: float | None
    total: float | None
    queue: float | None
    ready: frozenset[str]


@dataclass(frozen=True, slots=True)
class Lost:
    """The source is gone. retry_at: on the dashboard's clock."""

    reason: str
    retry_at: float


@dataclass(frozen=True, slots=True)
class Note:
    """What came of an act, until a moment on the dashboard's clock."""

    text: str
    role: Role
    until: float


class Board:
    """`now` is always the dashboard's own clock, in seconds; snapshots bring the appliance's."""

    def __init__(self, where: str, *, recorded: bool, interval: float, read_only: bool) -> None:
        self.where = where
        self._recorded = recorded
        self.interval = interval
        self.read_only = read_only
        self.identity: Identity | None = None
        # Shown instead of what is now.
        self.replay: Replay | None = None
        self._newest: Snapshot | None = None
        self.lost: Lost | None = None
        self.paused = False
        # What this role is not shown, and why.
        self.refused: dict[str, str] = {}
        self.note: Note | None = None
        # What the host shows while the source is lost; None where it is another host, or nobody has looked yet.
        self.surroundings: Surroundings | None = None
        self.local = True
        # Acts that the appliance has not answered yet.
        self.acts: list[str] = []
        self._trend: deque[Point] = deque(maxlen=TREND_POINTS_MAX)
        # Requests and log lines that came, and are not shown yet.
        self._requests: deque[RequestRecord] = deque(maxlen=REQUESTS_MAX)
        self._logs: deque[LogLine] = deque(maxlen=LOG_LINES_MAX)
        self._held: Snapshot | None = None
        self._arrived: float | None = None

    @property
    def snapshot(self) -> Snapshot | None:
        """What is shown."""
        return self._newest if self.replay is None else self.replay.shown

    @property
    def trend(self) -> Sequence[Point]:
        """What the charts show, oldest first."""
        return self._trend if self.replay is None else [point(one) for one in self.replay.before]

    @property
    def recorded(self) -> bool:
        """Whether what is shown is of before: then nothing can be done about it."""
        return self._recorded or self.replay is not None

    def take(self, update: Update, now: float) -> None:
        """Something new came."""
        self.lost = None
        self._requests.extend(update.requests)
        self._logs.extend(update.logs)
        if update.refused is not None:
            self.refused = update.refused
        if update.snapshot is None:
            return
        self._arrived = now
        self._trend.append(point(update.snapshot))
        if self.paused:
            self._held = update.snapshot
        else:
            self._newest = update.snapshot

    def recall(self, snapshots: Iterable[Snapshot]) -> None:
        """What was before; snapshots that came meanwhile stay the newest."""
        first = self._trend[0].time if self._trend else float("inf")
        self._trend.extendleft(reversed([point(one) for one in snapshots if one.time < first]))

    def lose(self, reason: str, retry_at: float) -> None:
        """The source is gone."""
        self.lost = Lost(reason, retry_at)

    def pause(self, paused: bool) -> None:
        """Holds what is shown as it is, or goes on with the newest."""
        self.paused = paused
        if not paused and self._held is not None:
            self._newest, self._held = self._held, None

    def new_requests(self) -> list[RequestRecord]:
        """What the lists do not show yet, oldest first; nothing while it is paused. They are given out once."""
        return [] if self.paused or self.replay else _drained(self._requests)

    def new_logs(self) -> list[LogLine]:
        """The same of log lines."""
        return [] if self.paused or self.replay else _drained(self._logs)

    @property
    def waiting(self) -> int:
        """Requests that came while it was paused."""
        return len(self._requests)

    def age(self, now: float) -> float | None:
        """Seconds since a snapshot came."""
        return None if self._arrived is None else max(0.0, now - self._arrived)

    def state(self, now: float) -> State:
        """What the title says."""
        if self.replay is not None:
            return "REPLAY"
        if self.lost is not None:
            return "NO DATA"
        age = self.age(now)
        if age is None:
            return "WAITING"
        if age >= STALE_INTERVALS * self.interval:
            return "STALE"
        return "PAUSED" if self.paused else "REPLAY" if self.recorded else "LIVE"

    @property
    def firing(self) -> list[AlertFigures]:
        """Alerts that are on, the worst and newest first. Acknowledging hides no critical one."""
        if self.snapshot is None:
            return []
        on = [
            alert
            for alert in self.snapshot.alerts
            if alert.state == "firing" or (alert.state == "acked" and alert.severity == "critical")
        ]
        return sorted(on, key=lambda alert: (alert.severity != "critical", -alert.since))


def point(snapshot: Snapshot) -> Point:
    """What the charts show of it."""
    serving = snapshot.serving
    return Point(
        snapshot.time,
        serving.ttft.p95,
        serving.token.p95,
        serving.total.p95,
        serving.queue.p95,
        frozenset(model.id for model in snapshot.models if model.state == "ready"),
    )


def _drained(queue: deque[T]) -> list[T]:
    taken = list(queue)
    queue.clear()
    return taken
