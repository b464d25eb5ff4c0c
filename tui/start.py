"""Opens the dashboard, as the terminal allows it."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone, tzinfo
from pathlib import Path
from typing import Final

from appliance.errors import ApplianceError
from tui.keymap import read_keymap
from tui.labels import Language
from tui.look import Look
from tui.source import Source
from tui.terminal import Plan, Wishes, look_around, plan

SLOW_RATE: Final = 0.2
# Where a moment that stands still is looked at from.
MOMENT_ZONE: Final = timezone(timedelta(hours=8))


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the operator asked for. once: a text instead of the screen. slow: of a serial line.

    appliance: the options of the command line that name the appliance. keymap: a file. screenshot: a new file, instead
    of the screen; of which screen, counted from 0, and in how many columns and lines.
    """

    once: bool = False
    json: bool = False
    read_only: bool = False
    slow: bool = False
    language: Language = "en"
    appliance: tuple[str, ...] = ()
    keymap: str | None = None
    screenshot: str | None = None
    screen: int = 0
    size: tuple[int, int] = (160, 45)
    terminal: Wishes = field(default_factory=Wishes)


def open_dashboard(source: Source, wanted: Wanted, moment: float | None = None) -> None:
    """Shows the dashboard until the operator leaves it, or prints or writes what it shows. Raises ApplianceError.

    moment: of a source that stands still, UTC seconds since 1970; None: time goes on.
    """
    if wanted.once or wanted.json:
        _print_once(source, wanted, _text_look(wanted))
        return
    if wanted.screenshot is not None:
        _take_screenshot(source, wanted, wanted.screenshot, moment)
        return
    found = plan(look_around(os.environ, ask=not wanted.terminal.ascii), wanted.terminal)
    if found.kind == "once":
        print(f"appliance: {found.why}; this is one look at it, as with --once", file=sys.stderr)  # noqa: T201
        _print_once(source, wanted, Look(found.glyphs, _zone(), wanted.language))
        return
    _show(source, wanted, found)


def _show(source: Source, wanted: Wanted, found: Plan) -> None:
    # A size that the shell exports is of an earlier moment: Textual would hold it, whatever the terminal has.
    for name in ("COLUMNS", "LINES"):
        os.environ.pop(name, None)
    # Textual takes a quarter of a second to import: a text is printed without it.
    from tui.app import Dashboard, Options

    options = Options(
        theme=found.theme,
        read_only=wanted.read_only,
        rate=SLOW_RATE if wanted.slow else 1.0,
        appliance=wanted.appliance,
    )
    app = Dashboard(source, Look(found.glyphs, _zone(), wanted.language), options)
    if wanted.keymap is not None:
        app.set_keymap(read_keymap(Path(wanted.keymap), app.binding_ids()))
    app.run(mouse=found.mouse)
    if app.return_code:
        raise ApplianceError("the dashboard ended by an error; what it says is above")


def _take_screenshot(source: Source, wanted: Wanted, path: str, moment: float | None) -> None:
    from tui.app import Dashboard, Options
    from tui.glyphs import ASCII, UTF8
    from tui.screenshot import Shot, take

    look = Look(ASCII if wanted.terminal.ascii else UTF8, _zone() if moment is None else MOMENT_ZONE, wanted.language)
    theme = wanted.terminal.theme or "dark"
    options = Options(theme=theme, read_only=wanted.read_only, appliance=wanted.appliance)
    if moment is not None:
        options = replace(options, wall=lambda: moment, clock=lambda: 0.0)
    take(Dashboard(source, look, options), Shot(Path(path), wanted.screen, wanted.size))


def _print_once(source: Source, wanted: Wanted, look: Look) -> None:
    from tui.once import as_json, as_text, first_snapshot

    board = asyncio.run(first_snapshot(source, read_only=wanted.read_only))
    width = shutil.get_terminal_size().columns
    text = as_json(board) if wanted.json else as_text(board, time.time, width, look)
    sys.stdout.write(text + "\n")


def _text_look(wanted: Wanted) -> Look:
    """Of what is printed: UTF-8 where stdout takes it."""
    from tui.glyphs import ASCII, UTF8

    utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    return Look(UTF8 if utf8 and not wanted.terminal.ascii else ASCII, _zone(), wanted.language)


def _zone() -> tzinfo:
    zone = datetime.now().astimezone().tzinfo
    assert zone is not None
    return zone
