"""Pictures of the screen: of the one that is in sight, and of one that is opened for it without a terminal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from rich.segment import Segment
from rich.terminal_theme import SVG_EXPORT_THEME
from textual.app import App
from textual.message import Message
from textual.pilot import Pilot

from appliance.errors import ApplianceError
from tui.acting import Stage
from tui.board import Board
from tui.drawing.svg import as_svg
from tui.export import write_new
from tui.messages import Said
from tui.proposals.others import screenshot
from tui.screens.confirm import Confirm

FIRST_SECONDS: Final = 15.0
_SETTLE_TIMES_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class Shot:
    """What is to be pictured: a screen's place, in a terminal of `size` columns and lines, to a new file."""

    path: Path
    screen: int
    size: tuple[int, int]


class Pictured(Protocol):
    """What it needs of the dashboard, beside being an App."""

    board: Board

    def action_show(self, number: int) -> None:
        """Brings a screen into sight."""
        ...

    def paint(self) -> None:
        """Shows what is known."""
        ...


def svg_of(app: App[Any]) -> str:
    """What is in sight. A box with a secret takes every key for itself, so that this is never asked over one."""
    assert not getattr(app.screen, "secret", False), "a secret is in sight"
    width, height = app.size
    rows: list[list[Segment]] = [list(strip) for strip in app.screen._compositor.render_strips(app.size)]
    return as_svg(rows[:height], width, SVG_EXPORT_THEME, app.title)


async def keep(app: Stage, svg: str, screen: str, stamp: str, post: Callable[[Message], object]) -> None:
    """Asks for a file, and writes it. In a worker. screen, stamp: for a name that nobody has to type."""
    proposal = screenshot(screen, str(Path.cwd() / f"{screen}-{stamp}.svg"))
    values = await app.ask_over(Confirm(proposal, (), app.look, app.theme_name, lambda: None))
    if values is None:
        return
    path = Path(values["out"])
    try:
        write_new(path, svg.encode())
    except ApplianceError as error:
        post(Said(str(error)))
    else:
        post(Said(f"{app.look.say('the screenshot is in')} {path}"))


def take(app: App[Any], shot: Shot) -> None:
    """Opens the dashboard without a terminal, waits until the screen is all there, and writes it.

    Raises ApplianceError.
    """
    failed: list[ApplianceError] = []

    async def work(pilot: Pilot[Any]) -> None:
        try:
            write_new(shot.path, (await _settled(app, shot.screen, pilot)).encode())
        except ApplianceError as error:
            failed.append(error)
        finally:
            app.exit()

    app.run(headless=True, size=shot.size, auto_pilot=work)
    if failed:
        raise failed[0]


async def _settled(app: Any, screen: int, pilot: Pilot[Any]) -> str:
    """The picture, once two of them in a row are the same."""
    shown: Pictured = app
    try:
        async with asyncio.timeout(FIRST_SECONDS):
            while shown.board.snapshot is None:
                if shown.board.lost is not None:
                    raise ApplianceError(f"no appliance answers at {shown.board.where}: {shown.board.lost.reason}")
                await pilot.pause(0.02)
    except TimeoutError:
        raise ApplianceError(f"{shown.board.where} sends no figures; is it the dashboard's own version?") from None
    shown.action_show(screen)
    before = ""
    for _ in range(_SETTLE_TIMES_MAX):
        questions = [worker for worker in app.workers if worker.name not in ("feed", "act")]
        if questions:
            await app.workers.wait_for_complete(questions)
        await pilot.pause(0)
        shown.paint()
        await pilot.pause(0)
        after = svg_of(app)
        if after == before:
            break
        before = after
    return before
