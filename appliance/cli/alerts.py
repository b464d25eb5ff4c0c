"""`appliance alerts`: what is wrong, who attends to it, whether people are told, and what to do."""

from __future__ import annotations

import difflib
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

import typer

from appliance.cli.common import Appliance, print_json, print_table
from appliance.cli.options import CommandGroup, How, JsonOption
from appliance.errors import ConfigError
from appliance.runbook import handbook, sections
from appliance.safe_text import safe_text

app = CommandGroup("What is wrong, who attends to it, and whether people are told.")

NameArgument = Annotated[str, typer.Argument(help="The alert's name, such as GpuHot.")]
WhatOption = Annotated[str, typer.Option("--of", help="Which model, GPU or file; needed where several have the alert.")]
LINE_CHARS_MAX: Final = 2000
_UNITS: Final = {"m": 60, "h": 3600, "d": 86_400}


@app.default
def show(appliance: Appliance, json: JsonOption = False) -> None:
    """Say what is wrong now and lately was, and whether people are told; exit code 1 while something critical fires."""
    found = appliance.ask("/alerts")
    critical = any(one["severity"] == "critical" and one["state"] in ("firing", "acked") for one in found["alerts"])
    if json:
        print_json(found)
    else:
        _print(found)
    if critical:
        raise typer.Exit(1)


@app.command()
def ack(
    name: NameArgument,
    note: Annotated[str, typer.Option("--note", help="What is being done about it.")],
    appliance: Appliance,
    how: How,
    of: WhatOption = "",
) -> None:
    """Say that somebody attends to an alert; a warning is then not repeated, a critical one is.

    Example: appliance alerts ack GpuHot --note "fan ordered"
    """
    what = of or _only(appliance, name)
    found = appliance.act("/alerts/ack", {"name": name, "what": what, "note": note}, how)
    _say(f"{found['name']} {found['what']}: {'would be acked' if how.plan else 'acked'}")


@app.command()
def silence(
    name: NameArgument,
    reason: Annotated[str, typer.Option("--reason", help="Why nobody is to be told.")],
    appliance: Appliance,
    how: How,
    of: Annotated[str, typer.Option("--of", help="Of this model, GPU or file alone; else of all.")] = "",
    span: Annotated[str, typer.Option("--for", help="How long, such as 30m, 8h or 2d; 0 ends a silence.")] = "1h",
) -> None:
    """Tell nobody of an alert for a while; the dashboard shows it all the same.

    Example: appliance alerts silence QueueBacklog --for 8h --reason "load test"
    """
    asked = {"name": name, "what": of, "seconds": _seconds(span), "reason": reason}
    _print_silences(appliance.act("/alerts/silence", asked, how))


@app.command()
def test(appliance: Appliance, how: How) -> None:
    """Send every receiver a message that means nothing; exit code 1 where one does not arrive."""
    receivers = appliance.act("/alerts/test", how=how)["receivers"]
    if not receivers:
        typer.echo("nobody is told of alerts; name receivers below alerts: in appliance.yaml")
    for one in receivers:
        if how.plan:
            typer.echo(f"{one['name']}: would get a message")
        elif one["failure"] is None:
            typer.echo(f"{one['name']}: arrived in {one['seconds']:.1f} s")
        else:
            _say(f"{one['name']}: {one['failure']}")
    if any(one.get("failure") for one in receivers):
        raise typer.Exit(1)


@app.command()
def explain(
    name: NameArgument,
    language: Annotated[Literal["en", "zh"], typer.Option("--lang", help="The language.")] = "en",
) -> None:
    """Say what an alert means and what to do, without a daemon.

    Example: appliance alerts explain GpuHot
    """
    known = sections(handbook(language))
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        raise ConfigError(f"the handbook has no section {name!r}{f'; did you mean {near[0]!r}?' if near else ''}")
    typer.echo(f"{name}\n\n{known[name]}")


def _only(appliance: Appliance, name: str) -> str:
    """The one thing that has the alert. Raises ConfigError where there are more."""
    alerts = appliance.ask("/alerts")["alerts"]
    having = [one["what"] for one in alerts if one["name"] == name and one["state"] in ("firing", "acked")]
    if len(having) > 1:
        raise ConfigError(f"{name} fires for several; say which with --of: {', '.join(having)}")
    return having[0] if having else ""


def _print(found: dict[str, Any]) -> None:
    if not found["alerts"]:
        typer.echo("nothing is wrong")
    else:
        print_table(
            ("severity", "alert", "of", "state", "since", "says"),
            (
                (
                    one["severity"],
                    one["name"],
                    one["what"],
                    f"acked by {one['acked_by']}" if one["state"] == "acked" else one["state"],
                    _time(one["since"]),
                    one["summary"] + (f" ({one['note']})" if one.get("note") else ""),
                )
                for one in found["alerts"]
            ),
        )
    _print_silences(found)
    for one in found["receivers"]:
        if one["failure"] is not None:
            _say(f"{one['name']}: {one['failure']}; {one['waiting']} alerts wait", err=True)
    if not found["receivers"]:
        typer.echo("nobody is told of alerts; name receivers below alerts: in appliance.yaml", err=True)


def _print_silences(found: dict[str, Any]) -> None:
    for one in found["silences"]:
        of = f" of {one['what']}" if one["what"] else ""
        _say(f"silenced: {one['name']}{of} until {_time(one['until'])} by {one['by']}: {one['reason']}")


def _say(text: str, *, err: bool = False) -> None:
    """Others have written parts of it."""
    typer.echo(safe_text(text, LINE_CHARS_MAX), err=err)


def _seconds(text: str) -> int:
    if text == "0":
        return 0
    if not (text[:-1].isascii() and text[:-1].isdigit() and text[-1:] in _UNITS):
        raise ConfigError(f"{text!r} is no span of time; write 30m, 8h or 2d")
    return int(text[:-1]) * _UNITS[text[-1]]


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
