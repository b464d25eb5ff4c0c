"""Lists that are shown over a screen: what the keys do, and all alerts. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.telemetry.snapshot import AlertFigures
from tui import units
from tui.lines import Line, Role, fit, line
from tui.look import Look


def help_lines(keys: Sequence[tuple[str, str]], look: Look) -> list[Line]:
    """A line for each key. Those of the screens come last, in one."""
    width = max((len(key) for key, _ in keys), default=0)
    lines = [line((fit(key, width), "accent"), f"  {look.say(said)}") for key, said in keys]
    return [*lines, line((fit("1-7", width), "accent"), f"  {look.say('screens')}")]


def alert_lines(alerts: Sequence[AlertFigures], look: Look) -> list[Line]:
    """The worst and newest first, each with since when and what is done about it."""
    if not alerts:
        return [line((look.say("No alert"), "good"))]
    order = {"firing": 0, "acked": 1, "pending": 2, "resolved": 3}
    lines: list[Line] = []
    for alert in sorted(alerts, key=lambda one: (order[one.state], one.severity != "critical", -one.since)):
        on = alert.state in ("firing", "acked")
        role: Role = "dim" if not on else "bad" if alert.severity == "critical" else "warn"
        mark = "!!" if alert.severity == "critical" else " !"
        lines.append(line((f"{mark} {alert.severity.upper():<8} {alert.name}", role), f"  {alert.what}"))
        lines.append(line(f"     {alert.summary}"))
        said = f"     {look.say(alert.state)} {look.say('since')} {units.clock(alert.since, look.zone)}"
        if alert.acked_by is not None:
            said += f", {look.say('acknowledged by')} {alert.acked_by}: {alert.note or ''}"
        if alert.silenced_until is not None:
            said += f", {look.say('silent until')} {units.clock(alert.silenced_until, look.zone)}"
        lines.append(line((said, "dim")))
    return lines
