"""What becomes of a condition: pending, firing, acked, resolved; and when somebody is to be told. Pure.

    pending ──held for the rule's time──▶ firing ──ack──▶ acked
       │                                     └──────┬───────┘
       └─ gone: as before                    gone for RESOLVE_SECONDS
                                                    ▼
                                     resolved ──KEPT_SECONDS──▶ forgotten

Somebody is told when what was told last differs from what is: once when it fires, once when it is resolved, and again
every `repeat_seconds` while it goes on. Silence puts that off. An acknowledged warning is not repeated; a critical one
is, and stays in sight, until it is resolved.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import msgspec
from msgspec import Struct

from appliance.alerting.rules import Condition
from appliance.telemetry.snapshot import AlertFacts, AlertFigures

RESOLVE_SECONDS: Final = 60.0
KEPT_SECONDS: Final = 86_400.0
ALERTS_MAX: Final = 500

# (name, what)
AlertKey = tuple[str, str]
# (name, what or "" for every alert of the name)
SilenceKey = tuple[str, str]
NoticeKind = Literal["firing", "repeated", "resolved", "test"]


class Alert(AlertFacts, frozen=True, kw_only=True, omit_defaults=True):
    """One alert, with what is remembered of it. fired: when it fired first. gone: since when its condition does not
    hold, None while it does. told: what was said last; told_at: when.
    """

    fired: float | None = None
    gone: float | None = None
    told: Literal["firing", "resolved"] | None = None
    told_at: float = 0.0

    @property
    def key(self) -> AlertKey:
        """What it is known by."""
        return (self.name, self.what)


class Silence(Struct, frozen=True, kw_only=True):
    """Nobody is told of alerts of this name until then. what: of this thing alone; "" of everything."""

    name: str
    what: str
    until: float
    by: str
    reason: str

    @property
    def key(self) -> SilenceKey:
        """What it is known by."""
        return (self.name, self.what)


@dataclass(frozen=True, slots=True)
class Notice:
    """Somebody is to be told of this."""

    kind: NoticeKind
    alert: Alert


@dataclass(frozen=True, slots=True)
class Timing:
    """for_seconds: by rule. repeat_seconds: 0: told once."""

    for_seconds: Mapping[str, float]
    repeat_seconds: float


def advance(
    alerts: Mapping[AlertKey, Alert], found: Iterable[Condition], now: float, timing: Timing
) -> dict[AlertKey, Alert]:
    """The alerts after one look. Beyond ALERTS_MAX new ones are left out; what is there goes on."""
    holding = {(condition.name, condition.what): condition for condition in found}
    after: dict[AlertKey, Alert] = {}
    for key, alert in alerts.items():
        kept = _gone(alert, now) if key not in holding else _held(alert, holding[key], now, timing)
        if kept is not None:
            after[key] = kept
    for key, condition in holding.items():
        if key not in after and len(after) < ALERTS_MAX:
            after[key] = _held(_begun(condition, now), condition, now, timing)
    return after


def due(
    alerts: Mapping[AlertKey, Alert], silences: Mapping[SilenceKey, Silence], now: float, timing: Timing
) -> list[Notice]:
    """What somebody is to be told now."""
    return [
        Notice(kind, alert)
        for alert in alerts.values()
        if (kind := _due(alert, now, timing)) is not None and silenced_until(alert.key, silences, now) is None
    ]


def told(alert: Alert, now: float) -> Alert:
    """The same once the notice that was due is on its way."""
    return msgspec.structs.replace(alert, told="resolved" if alert.state == "resolved" else "firing", told_at=now)


def acked(alert: Alert, by: str, note: str, now: float) -> Alert:
    """Somebody attends to it; asked again, the newer note counts."""
    since = alert.since if alert.state == "acked" else now
    return msgspec.structs.replace(alert, state="acked", since=since, acked_by=by, note=note)


def silenced_until(key: AlertKey, silences: Mapping[SilenceKey, Silence], now: float) -> float | None:
    """When the last silence that covers it ends; None where none does."""
    ends = [silence.until for each in (key, (key[0], "")) if (silence := silences.get(each)) and silence.until > now]
    return max(ends, default=None)


def figures(alert: Alert, silences: Mapping[SilenceKey, Silence], now: float) -> AlertFigures:
    """As observers see it."""
    return AlertFigures(
        **{name: getattr(alert, name) for name in AlertFacts.__struct_fields__},
        silenced_until=silenced_until(alert.key, silences, now),
    )


def _begun(condition: Condition, now: float) -> Alert:
    return Alert(
        name=condition.name,
        what=condition.what,
        severity=condition.severity,
        state="pending",
        since=now,
        summary=condition.summary,
    )


def _held(alert: Alert, condition: Condition, now: float, timing: Timing) -> Alert:
    """Its condition holds."""
    if alert.state == "resolved":
        again = _begun(condition, now)
        alert = msgspec.structs.replace(again, fired=alert.fired, told=alert.told, told_at=alert.told_at)
    if alert.state == "pending" and now - alert.since >= timing.for_seconds.get(alert.name, 0.0):
        alert = msgspec.structs.replace(alert, state="firing", since=now, fired=now)
    return msgspec.structs.replace(alert, summary=condition.summary, severity=condition.severity, gone=None)


def _gone(alert: Alert, now: float) -> Alert | None:
    """Its condition does not hold, or is not known; a short gap is no end."""
    if alert.state == "pending":
        return None if alert.fired is None else msgspec.structs.replace(alert, state="resolved", since=now, gone=now)
    if alert.state == "resolved":
        return alert if now - alert.since < KEPT_SECONDS else None
    gone = now if alert.gone is None else alert.gone
    if now - gone < RESOLVE_SECONDS:
        return msgspec.structs.replace(alert, gone=gone)
    return msgspec.structs.replace(alert, state="resolved", since=now, gone=gone)


def _due(alert: Alert, now: float, timing: Timing) -> NoticeKind | None:
    if alert.state == "resolved":
        return "resolved" if alert.told == "firing" else None
    if not alert.on:
        return None
    if alert.told != "firing":
        return "firing"
    quiet = alert.state == "acked" and alert.severity != "critical"
    again = timing.repeat_seconds > 0 and now - alert.told_at >= timing.repeat_seconds
    return "repeated" if again and not quiet else None
