"""`appliance requests` and `appliance usage`: the request log, and what was used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from json import dumps
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from appliance.cli.common import Appliance, minute, point_in_time, print_json, print_table
from appliance.cli.files import check_file
from appliance.cli.options import CommandGroup, JsonOption
from appliance.errors import ConfigError
from appliance.safe_text import safe_text

# Of what is shown already, so many are known by their ids.
_KNOWN_MAX: Final = 2_000
_FOLLOWED_AT_ONCE: Final = 500

app = CommandGroup("The request log: who asked which model, how it went, how long it took. Never the text.")

FilterOption = Annotated[
    str, typer.Option("--filter", help="Such as: st>=400 model:qwen key:ci-bot ip:10.20.0.0/16 dur>10 since:15m")
]


class Format(StrEnum):
    """Of an export."""

    CSV = "csv"
    JSONL = "jsonl"


@app.default
def show(
    appliance: Appliance,
    filter: FilterOption = "",
    count: Annotated[int, typer.Option("-n", "--count", min=1, max=10_000, help="How many.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with those that come, until Ctrl-C.")] = False,
    json: JsonOption = False,
) -> None:
    """Show the newest requests, the last one at the bottom; the command `export` writes them to a file.

    A filter's words must all hold; `!` before one negates it, `a|b` is either, quotes keep spaces together. Fields: st
    model key ip dur ttft queue in out path outcome error id finish stream since until.
    Example: appliance requests --filter "st>=500 since:2h !key:ci-bot"
    """
    if follow:
        _follow(appliance, filter, count, json)
        return
    found = _newest(appliance, filter, count)
    if json:
        print_json(found)
    else:
        print_table(_COLUMNS, map(_row, found))


@app.command("export")
def export(
    appliance: Appliance,
    out: Annotated[Path, typer.Option("--out", help="The new file to write.", readable=False)],
    filter: FilterOption = "",
    format: Annotated[Format, typer.Option("--format", help="CSV for spreadsheets, or JSON lines.")] = Format.CSV,
) -> None:
    """Write requests to a file, newest first. The audit log gets a record of it.

    Example: appliance requests export --filter "since:7d" --format csv --out november.csv
    """
    check_file(out, new=True)
    appliance.download("/requests/export", out, filter=filter, format=format.value)
    typer.echo(f"{out}: written")


def usage(
    appliance: Appliance,
    since: Annotated[str, typer.Option("--since", help="A UTC time such as 2026-11-01, or 24h, 7d.")] = "7d",
    until: Annotated[str | None, typer.Option("--until", help="The same.")] = None,
    by: Annotated[str | None, typer.Option("--by", help="Some of principal, model, day, with commas.")] = None,
    json: JsonOption = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print the answer as CSV.")] = False,
) -> None:
    """Show what was used: requests, refusals, tokens, hits of the prefix cache, times to the first token.

    Example: appliance usage --since 30d --by principal,day
    """
    if json and csv:
        raise ConfigError("--json and --csv exclude each other; give one of them")
    found = appliance.ask("/usage", since=point_in_time(since), until=point_in_time(until), by=by)
    if json:
        print_json(found)
        return
    if csv:
        from appliance.telemetry.request_export import csv_table

        rows = [_usage_row(found["by"], one, "") for one in found["rows"]]
        typer.echo(csv_table([(*found["by"], *_FIGURES), *rows]).decode(), nl=False)
        return
    rows = [_usage_row(found["by"], one, "-") for one in found["rows"]]
    typer.echo(f"{minute(found['since'])} to {minute(found['until'])} UTC", err=True)
    total = [_usage_row(found["by"], one, "all") for one in found["total"]] if len(rows) > 1 else []
    shown = [[*row[:-3], *map(_shown, row[-3:])] for row in [*rows, *total]]
    print_table((*found["by"], *(name.replace("_", " ") for name in _FIGURES)), shown)


_COLUMNS: Final = ("time", "st", "model", "key", "address", "in", "out", "ttft", "dur", "error", "id")
_FIGURES: Final = (
    *("requests", "refused", "failed", "client_gone", "prompt_tokens", "cached_tokens", "completion_tokens"),
    *("cached_share", "ttft_p50", "ttft_p95"),
)


def _usage_row(by: Iterable[str], one: Mapping[str, Any], unknown: str) -> list[Any]:
    return [*(one.get(name, unknown) for name in by), *(one.get(name) for name in _FIGURES)]


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _newest(appliance: Appliance, filter: str, count: int) -> list[dict[str, Any]]:
    """The oldest of them first."""
    found: list[dict[str, Any]] = []
    before: int | None = None
    while len(found) < count:
        page = appliance.ask("/requests", filter=filter, limit=min(1000, count - len(found)), before=before)
        found += page["requests"]
        before = page["before"]
        if before is None:
            break
    return found[::-1]


def _follow(appliance: Appliance, filter: str, count: int, json: bool) -> None:
    known: dict[tuple[str, float], None] = {}

    def news(found: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        new = {(one["id"], one["time"]): one for one in found if (one["id"], one["time"]) not in known}
        known.update(dict.fromkeys(new))
        for oldest in list(known)[: max(0, len(known) - _KNOWN_MAX)]:
            del known[oldest]
        return list(new.values())

    def tell(found: Iterable[Mapping[str, Any]]) -> None:
        for one in found:
            typer.echo(dumps(one) if json else safe_text("  ".join(_row(one)), 1024))

    tell(news(_newest(appliance, filter, max(count, _FOLLOWED_AT_ONCE)))[-count:])
    appliance.watch(
        "/requests", lambda page: tell(news(page["requests"][::-1])), filter=filter, limit=_FOLLOWED_AT_ONCE
    )


def _row(one: Mapping[str, Any]) -> list[str]:
    """Unknown is `-`, never 0."""
    return [
        datetime.fromtimestamp(one["time"], UTC).strftime("%Y-%m-%d %H:%M:%S"),
        str(one["status"] or "-"),
        one.get("model") or "-",
        one.get("principal") or "-",
        one["address"],
        str(one.get("prompt_tokens", 0)),
        str(one.get("completion_tokens", 0)),
        _shown(one.get("ttft_seconds")),
        _shown(one["total_seconds"]),
        one.get("error_code") or "-",
        one["id"],
    ]
