"""`appliance logs`: what the running daemon has said lately."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from json import dumps
from typing import Annotated, Any

import msgspec
import typer

from appliance.cli.common import Appliance, point_in_time, print_json
from appliance.cli.options import JsonOption
from appliance.clock import rfc3339
from appliance.safe_text import safe_lines, safe_text
from appliance.telemetry.log_line import FoldedLine, LogLine, folded


class LowestLevel(StrEnum):
    """From which level on."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def logs(
    appliance: Appliance,
    level: Annotated[LowestLevel, typer.Option("--level", help="This level and those above.")] = LowestLevel.INFO,
    since: Annotated[str | None, typer.Option("--since", help="A UTC time, or 15m, 24h.")] = None,
    count: Annotated[int, typer.Option("-n", "--count", min=1, max=1000, help="How many.")] = 100,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with those that come, until Ctrl-C.")] = False,
    json: JsonOption = False,
) -> None:
    """Show what the daemon has said lately, the newest at the bottom; what says the same is one line with ×N.

    The journal has more: earlier runs, and what the engine's workers print. Example: appliance logs --level warning
    """
    query = {"level": level.value, "since": point_in_time(since)}
    if follow:
        appliance.watch("/logs", lambda page: _tell(page, json), limit=count, **query)
        return
    page = appliance.ask("/logs", limit=count, **query)
    if json:
        print_json(page["lines"])
    else:
        _tell(page, json)


def _tell(page: Mapping[str, Any], json: bool) -> Mapping[str, int]:
    """Prints a page; what to ask for next."""
    if json:
        for line in page["lines"]:
            typer.echo(dumps(line))
    else:
        for one in folded(msgspec.convert(page["lines"], list[LogLine])):
            typer.echo(_text(one))
    return {"after": page["newest"], "limit": 1000}


def _text(one: FoldedLine) -> str:
    line = one.line
    about = "" if line.request_id is None else f" [{line.request_id}]"
    times = "" if one.count == 1 else f"  ×{one.count}"
    said = safe_text(f"{rfc3339(line.time)} {line.level.upper()} {line.logger}:{about} {line.message}", 16_384) + times
    return said if line.exception is None else f"{said}\n{safe_lines(line.exception)}"
