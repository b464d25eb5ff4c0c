"""Lists that are shown over a screen: what the keys do, and all alerts. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from appliance.telemetry.snapshot import AlertFigures
from tui import units
from tui.lines import Line, Role, fit, line
from tui.look import Look


def help_lines(keys: Sequence[tuple[str, str]], look: Look) -> list[Line]:
    """A line for each key. Those of the screens come last, in one."""
    width = max((len(key) for key, _ in keys), default=0)
    lines = [line((fit(key, width), "accent"), f"  {look.say(said)}") for key, said in keys]
    return [*lines, line((fit("1-7", width), "accent"), f"  {look.say('screens')}")]


def in_order(alerts: Sequence[AlertFigures]) -> list[AlertFigures]:
    """The worst and newest first."""
    order = {"firing": 0, "acked": 1, "pending": 2, "resolved": 3}
    return sorted(alerts, key=lambda one: (order[one.state], one.severity != "critical", -one.since))


def alert_lines(alert: AlertFigures, look: Look) -> list[Line]:
    """What is wrong, since when, and what is done about it."""
    role: Role = "dim" if not alert.on else "bad" if alert.severity == "critical" else "warn"
    mark = "!!" if alert.severity == "critical" else " !"
    said = f"     {look.say(alert.state)} {look.say('since')} {units.clock(alert.since, look.zone)}"
    if alert.acked_by is not None:
        said += f", {look.say('acknowledged by')} {alert.acked_by}: {alert.note or ''}"
    if alert.silenced_until is not None:
        said += f", {look.say('silent until')} {units.clock(alert.silenced_until, look.zone)}"
    return [
        line((f"{mark} {alert.severity.upper():<8} {alert.name}", role), f"  {alert.what}"),
        line(f"     {alert.summary}"),
        line((said, "dim")),
    ]


def approval_lines(found: Mapping[str, Any], look: Look) -> list[Line]:
    """What a second person is asked to agree to."""
    by = found.get("approved_by")
    agreed = f", {look.say('agreed to by')} {by}" if by else ""
    return [
        line((str(found["action"]), "accent"), f"  {found['resource']}"),
        line(f"     {found['what']}"),
        line((f"     {found['id']}  {look.say('asked by')} {found['asked_by']}{agreed}", "dim")),
    ]
