"""Opens the dashboard, as the terminal allows it."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Final

from appliance.errors import ApplianceError
from tui.keymap import read_keymap
from tui.labels import Language
from tui.look import Look
from tui.source import Source
from tui.terminal import Plan, Wishes, look_around, plan

SLOW_RATE: Final = 0.2


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the operator asked for. once: a text instead of the screen. slow: of a serial line.

    appliance: the options of the command line that name the appliance. keymap: a file.
    """

    once: bool = False
    json: bool = False
    read_only: bool = False
    slow: bool = False
    language: Language = "en"
    appliance: tuple[str, ...] = ()
    keymap: str | None = None
    terminal: Wishes = field(default_factory=Wishes)


def open_dashboard(source: Source, wanted: Wanted) -> None:
    """Shows the dashboard until the operator leaves it, or prints a text. Raises ApplianceError."""
    if wanted.once or wanted.json:
        _print_once(source, wanted, _text_look(wanted))
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
