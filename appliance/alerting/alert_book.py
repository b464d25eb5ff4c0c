"""The alerts of one appliance with their silences, and what waits to be told: `<state>/store/alerts.json`.

What is pending is not in the file: it begins anew after a restart. A damaged file is reported and begun anew; then what
goes on is told a second time, and nothing is lost but notes and silences.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from appliance.alerting.alerts import (
    Alert,
    AlertKey,
    Notice,
    Silence,
    SilenceKey,
    Timing,
    acked,
    advance,
    due,
    figures,
    told,
)
from appliance.alerting.history import STARTS_MAX
from appliance.alerting.message import Told
from appliance.alerting.rules import Condition
from appliance.errors import ChangeRefused, StateError
from appliance.state_dir import read_private, write_atomic
from appliance.telemetry.snapshot import AlertFigures

FILE: Final = "alerts.json"
FILE_BYTES_MAX: Final = 16 * 2**20
SILENCES_MAX: Final = 200

_log = logging.getLogger(__name__)


class _File(Struct, kw_only=True, forbid_unknown_fields=True):
    """starts: of daemons lately. waiting: by receiver, what it was not told yet."""

    alerts: tuple[Alert, ...] = ()
    silences: tuple[Silence, ...] = ()
    starts: Annotated[tuple[float, ...], Meta(max_length=STARTS_MAX)] = ()
    waiting: dict[str, tuple[Told, ...]] = {}


class AlertBook:
    """Belongs to the event loop; the disk is written in a thread."""

    def __init__(self, path: Path) -> None:
        """Reads the file, and waits for the disk: for the start."""
        self._path = path
        self._written: _File | None = None
        file = _read(path)
        self._alerts: dict[AlertKey, Alert] = {alert.key: alert for alert in file.alerts}
        self._silences: dict[SilenceKey, Silence] = {silence.key: silence for silence in file.silences}
        # Of the file, for those who begin with them.
        self.starts: tuple[float, ...] = file.starts
        self.waiting: Mapping[str, tuple[Told, ...]] = file.waiting

    def look(self, found: Iterable[Condition], now: float, timing: Timing) -> list[Notice]:
        """Takes over what holds now; what is to be told counts as told."""
        before = self._alerts
        self._silences = {key: silence for key, silence in self._silences.items() if silence.until > now}
        self._alerts = advance(before, found, now, timing)
        notices = due(self._alerts, self._silences, now, timing)
        for notice in notices:
            self._alerts[notice.alert.key] = told(notice.alert, now)
        for key, alert in self._alerts.items():
            known = before.get(key)
            if alert.state in ("firing", "resolved") and (known is None or known.state != alert.state):
                level = logging.INFO if alert.state == "resolved" else logging.WARNING
                _log.log(level, "%s %s: %s", alert.name, alert.state, alert.summary)
        return notices

    def ack(self, name: str, what: str, by: str, note: str, now: float) -> AlertFigures:
        """Raises ChangeRefused where no such alert is on."""
        alert = self.find(name, what)
        self._alerts[alert.key] = acked(alert, by, note, now)
        return figures(self._alerts[alert.key], self._silences, now)

    def find(self, name: str, what: str) -> Alert:
        """An alert that is on. Raises ChangeRefused."""
        alert = self._alerts.get((name, what))
        if alert is None or not alert.on:
            on = ", ".join(f"{each.name} {each.what}" for each in self._alerts.values() if each.on)
            raise ChangeRefused("not_found", f"no alert {name} of {what!r} fires; what fires: {on or 'nothing'}")
        return alert

    def silence(self, silence: Silence, now: float) -> None:
        """In place of one of the same name and thing; one that has ended already ends that. Raises ChangeRefused."""
        self._silences.pop(silence.key, None)
        if silence.until <= now:
            return
        if len(self._silences) >= SILENCES_MAX:
            raise ChangeRefused("conflict", f"there are {SILENCES_MAX} silences; end one first")
        self._silences[silence.key] = silence

    def figures(self, now: float, resolved_seconds: float) -> tuple[AlertFigures, ...]:
        """Critical ones first, then by age. resolved_seconds: how long those that are over are shown."""
        shown = [
            each for each in self._alerts.values() if each.state != "resolved" or now - each.since < resolved_seconds
        ]
        shown.sort(key=lambda alert: (_ORDER[alert.state], alert.severity != "critical", alert.since, alert.key))
        return tuple(figures(alert, self._silences, now) for alert in shown)

    @property
    def silences(self) -> tuple[Silence, ...]:
        """Those in force."""
        return tuple(self._silences.values())

    async def save(self, starts: tuple[float, ...], waiting: Mapping[str, tuple[Told, ...]]) -> None:
        """Writes the file where it would differ. A disk that takes nothing is logged, and tried again with the next."""
        kept = tuple(alert for alert in self._alerts.values() if alert.state != "pending")
        file = _File(alerts=kept, silences=self.silences, starts=starts, waiting=dict(waiting))
        lasting = msgspec.structs.replace(file, alerts=tuple(map(_without_figure, kept)))
        if lasting == self._written:
            return
        try:
            await asyncio.to_thread(write_atomic, self._path, msgspec.json.encode(file))
        except StateError as error:
            _log.warning("%s", error)
        else:
            self._written = lasting


_ORDER: Final[Mapping[str, int]] = {"firing": 0, "acked": 0, "pending": 1, "resolved": 2}


def _without_figure(alert: Alert) -> Alert:
    """A sentence that changes every second is no reason to write a file every second."""
    return msgspec.structs.replace(alert, summary="", gone=None)


def _read(path: Path) -> _File:
    if not path.exists():
        return _File()
    try:
        return msgspec.json.decode(read_private(path, FILE_BYTES_MAX), type=_File)
    except (StateError, ValueError, RecursionError) as error:
        _log.warning("%s cannot be read (%s); what is wrong now is told anew", path, error)
        return _File()
