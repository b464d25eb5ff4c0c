"""The alerts of a running daemon: takes every Snapshot, keeps the book, and has people told. It never blocks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from appliance.alert_config import Alerts
from appliance.alerting.alert_book import AlertBook
from appliance.alerting.alerts import Silence, Timing
from appliance.alerting.delivery.outbox import Outbox, ReceiverStatus, ReceiverTest
from appliance.alerting.delivery.receiver import Receiver
from appliance.alerting.history import History
from appliance.alerting.message import Sender, Told
from appliance.alerting.rules import FOR_SECONDS, Moment, conditions
from appliance.tasks import TaskOwner
from appliance.telemetry.snapshot import AlertFigures, Snapshot

RECENT_SECONDS: Final = 3600.0
SAVE_SECONDS: Final = 1.0

_log = logging.getLogger(__name__)


class AlertWatch:
    """Belongs to the event loop. `take` is what the observer calls with each Snapshot, in order."""

    def __init__(self, path: Path, sender: Sender, clock: Callable[[], float], outbox: Outbox | None = None) -> None:
        """path: of the book's file, which is read now. clock: UTC seconds."""
        self._clock = clock
        self._book = AlertBook(path)
        self._history = History(self._book.starts)
        self._outbox = outbox or Outbox(sender, clock)
        self._settings = Alerts()
        self._timing = Timing(FOR_SECONDS, 0.0)
        self._tasks = TaskOwner("alert-watch")

    def start(self, settings: Alerts, found: Sequence[Receiver]) -> None:
        """Begins to deliver and to save. found: the receivers of `settings`, see `receivers`."""
        self._settings = settings
        self._timing = Timing(FOR_SECONDS, settings.repeat_hours * 3600)
        self._outbox.start(found, self._book.waiting)
        self._tasks.spawn(self._save(), name="save")

    def reconfigure(self, settings: Alerts, found: Sequence[Receiver]) -> None:
        """After a reload. What is under way goes on where nothing has changed."""
        if settings == self._settings:
            return
        self._settings = settings
        self._timing = Timing(FOR_SECONDS, settings.repeat_hours * 3600)
        self._outbox.start(found, {})

    async def close(self) -> None:
        """Ends deliveries and saves what is left to tell."""
        await self._tasks.close()
        await self._outbox.close()
        await self._save_once()

    def take(self, snapshot: Snapshot) -> None:
        """Looks what is wrong now, and puts what is to be told into the queues."""
        self._history.add(snapshot)
        moment = Moment(snapshot, self._history, self._outbox.failures)
        notices = self._book.look(conditions(moment), snapshot.time, self._timing)
        if notices:
            self._outbox.put([Told.of(notice, snapshot.time) for notice in notices])

    def figures(self, resolved_seconds: float = RECENT_SECONDS) -> tuple[AlertFigures, ...]:
        """What is pending, on, or over for less than `resolved_seconds`: critical ones first, then the oldest."""
        return self._book.figures(self._clock(), resolved_seconds)

    @property
    def silences(self) -> tuple[Silence, ...]:
        """Those in force."""
        now = self._clock()
        return tuple(silence for silence in self._book.silences if silence.until > now)

    @property
    def receivers(self) -> list[ReceiverStatus]:
        """Who is told, and how that goes."""
        return self._outbox.statuses

    def degraded(self) -> list[str]:
        """For `appliance status`."""
        return [f"alerts do not reach {name}: {why}" for name, why in self._outbox.failures.items()]

    def check_on(self, name: str, what: str) -> AlertFigures:
        """An alert that is on. Raises ChangeRefused."""
        self._book.find(name, what)
        return next(each for each in self.figures() if (each.name, each.what) == (name, what))

    def ack(self, name: str, what: str, by: str, note: str) -> AlertFigures:
        """Somebody attends to it. Raises ChangeRefused where no such alert is on."""
        return self._book.ack(name, what, by, note, self._clock())

    def silence(self, name: str, what: str, seconds: float, by: str, reason: str) -> Silence:
        """Nobody is told for so long; 0 ends a silence. Raises ChangeRefused."""
        now = self._clock()
        silence = Silence(name=name, what=what, until=now + seconds, by=by, reason=reason)
        self._book.silence(silence, now)
        return silence

    async def test(self, by: str) -> list[ReceiverTest]:
        """Tells every receiver something that means nothing, and says how it went."""
        return await self._outbox.test(Told.test(by, self._clock()))

    async def _save(self) -> None:
        while True:
            await asyncio.sleep(SAVE_SECONDS)
            await self._save_once()

    async def _save_once(self) -> None:
        try:
            await self._book.save(self._history.starts or self._book.starts, self._outbox.waiting)
        except msgspec.MsgspecError:
            _log.exception("alerts could not be saved")
