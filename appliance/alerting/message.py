"""One alert as receivers are told of it, and how a batch reads as JSON and as a letter. Pure.

The JSON is that of Prometheus' Alertmanager (webhook, version 4), so that what takes its messages takes ours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

import msgspec
from msgspec import Struct

from appliance.alerting.alerts import Notice, NoticeKind
from appliance.alerting.rules import runbook_of
from appliance.clock import rfc3339
from appliance.safe_text import safe_text
from appliance.telemetry.snapshot import Severity

SUMMARY_CHARS_MAX: Final = 500
TEST_NAME: Final = "AlertTest"
# What Alertmanager says of an alert that is not over.
_NEVER: Final = "0001-01-01T00:00:00Z"


class Told(Struct, frozen=True, kw_only=True):
    """What a receiver is told of one alert. fired, ended: UTC seconds; ended: None while it goes on."""

    kind: NoticeKind
    name: str
    what: str
    severity: Severity
    summary: str
    fired: float
    ended: float | None
    at: float
    acked_by: str | None = None
    note: str | None = None

    @classmethod
    def of(cls, notice: Notice, now: float) -> Told:
        """Of a notice that is due at `now`."""
        alert = notice.alert
        return cls(
            kind=notice.kind,
            name=alert.name,
            what=safe_text(alert.what),
            severity=alert.severity,
            summary=safe_text(alert.summary, SUMMARY_CHARS_MAX),
            fired=alert.since if alert.fired is None else alert.fired,
            ended=alert.since if alert.state == "resolved" else None,
            at=now,
            acked_by=alert.acked_by,
            note=alert.note,
        )

    @classmethod
    def test(cls, by: str, now: float) -> Told:
        """That says nothing but that messages arrive."""
        summary = safe_text(f"a test that {by} asked for: alerts reach this receiver", SUMMARY_CHARS_MAX)
        return cls(
            kind="test", name=TEST_NAME, what="test", severity="warning", summary=summary, fired=now, ended=now, at=now
        )

    @property
    def status(self) -> Literal["firing", "resolved"]:
        """In two words."""
        return "resolved" if self.ended is not None else "firing"


@dataclass(frozen=True, slots=True)
class Sender:
    """Which appliance it is."""

    host: str
    version: str


class _Alert(Struct, frozen=True, kw_only=True, rename="camel"):
    status: str
    labels: dict[str, str]
    annotations: dict[str, str]
    starts_at: str
    ends_at: str
    generator_url: str = msgspec.field(default="", name="generatorURL")
    fingerprint: str


class _Batch(Struct, frozen=True, kw_only=True, rename="camel"):
    version: str = "4"
    group_key: str
    truncated_alerts: int = 0
    status: str
    receiver: str
    group_labels: dict[str, str]
    common_labels: dict[str, str]
    common_annotations: dict[str, str]
    external_url: str = msgspec.field(default="", name="externalURL")
    alerts: tuple[_Alert, ...]


def batch_json(told: Sequence[Told], sender: Sender, receiver: str) -> bytes:
    """For a webhook."""
    common = {"instance": sender.host}
    return msgspec.json.encode(
        _Batch(
            group_key=f'{{}}:{{instance="{sender.host}"}}',
            status="firing" if any(each.status == "firing" for each in told) else "resolved",
            receiver=receiver,
            group_labels=common,
            common_labels=common,
            common_annotations={},
            alerts=tuple(_alert(each, sender) for each in told),
        )
    )


def one_json(told: Told, sender: Sender) -> bytes:
    """For a line of a collector: flat."""
    return msgspec.json.encode({**msgspec.to_builtins(told), "host": sender.host, "runbook": runbook_of(told.name)})


def subject(told: Sequence[Told], sender: Sender) -> str:
    """Of a letter: the worst first."""
    worst = min(told, key=lambda each: (each.status != "firing", each.severity != "critical"))
    more = f" (+{len(told) - 1} more)" if len(told) > 1 else ""
    return safe_text(f"[{_word(worst)}] {sender.host}: {worst.name} {worst.what}{more}", 200)


def letter(told: Sequence[Told], sender: Sender) -> str:
    """Its text."""
    parts = []
    for each in told:
        lines = [f"{_word(each)}  {each.name}  {each.what}", f"  {each.summary}", f"  since {_time(each.fired)}"]
        if each.ended is not None and each.kind != "test":
            lines.append(f"  over since {_time(each.ended)}")
        if each.acked_by is not None:
            lines.append(f"  {safe_text(each.acked_by)} attends to it: {safe_text(each.note or '')}")
        if each.kind != "test":
            lines.append(f"  what to do: appliance alerts explain {each.name} (or {runbook_of(each.name)})")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + f"\n\n-- \n{sender.host}, appliance {sender.version}\n"


def _word(told: Told) -> str:
    if told.kind == "test":
        return "TEST"
    return "RESOLVED" if told.status == "resolved" else told.severity.upper()


def _alert(told: Told, sender: Sender) -> _Alert:
    labels = {"alertname": told.name, "severity": told.severity, "instance": sender.host, "what": told.what}
    return _Alert(
        status=told.status,
        labels=labels,
        annotations={"summary": told.summary, "runbook": runbook_of(told.name)},
        starts_at=rfc3339(told.fired),
        ends_at=_NEVER if told.ended is None else rfc3339(told.ended),
        fingerprint=hashlib.sha256(f"{sender.host}\n{told.name}\n{told.what}".encode()).hexdigest()[:16],
    )


def _time(time: float) -> str:
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M:%S} UTC"
