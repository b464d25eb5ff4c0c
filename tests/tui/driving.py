"""Drives the dashboard without a terminal, on a clock that stands still."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta, timezone
from typing import Any, Final, Literal

from textual.events import Key
from textual.keys import _character_to_key
from textual.pilot import Pilot
from textual.screen import ModalScreen
from textual.widgets import Input

from tests.waiting import WAIT_SECONDS_MAX
from tui.app import Dashboard, Options
from tui.demo.scenario import ScenarioName
from tui.demo.source import FROZEN_MOMENT, DemoSource
from tui.glyphs import ASCII, UTF8, Glyphs
from tui.labels import Language
from tui.look import Look
from tui.messages import Gone
from tui.source import Source
from tui.theme import ThemeName

ZONE: Final = timezone(timedelta(hours=8))
HISTORY_SECONDS: Final = 60
# Nothing is painted but when a test says so.
_NEVER: Final = 1e-6
State = Literal["live", "empty", "stale", "disconnected", "replay"]


@dataclass
class Clock:
    """A clock that a test sets."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Driven:
    """A dashboard that runs."""

    app: Dashboard
    pilot: Pilot[Any]
    clock: Clock = field(default_factory=Clock)

    async def press(self, *keys: str) -> None:
        """Presses keys, and waits for what follows; `Pilot.press` waits until the processor is idle too."""
        for key in keys:
            name = _character_to_key(key) if len(key) == 1 and not key.isalnum() else key
            focused = self.app.focused
            self.app.post_message(Key(name, key if len(key) == 1 else None))
            await self.pilot.pause(0)
            if not (len(key) == 1 and isinstance(focused, Input) and self.app.focused is focused):
                # It may move the focus or open something, which several widgets work on: the next key is for what is
                # there then. Only what is typed stays where it is.
                await self.settle()
        await self.settle()

    async def settle(self) -> None:
        """Until everything that was asked is answered and drawn."""
        before: list[str] = []
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while time.monotonic() < deadline:
            questions = [worker for worker in self.app.workers if worker.name not in ("feed", "act")]
            if questions:
                await self.app.workers.wait_for_complete(questions)
            await self.pilot.pause(0)
            self.app.paint()
            await self.pilot.pause(0)
            after = self.lines()
            if after == before and any(after) and not self._thinks():
                return
            before = after
            # What is being done has its own thread.
            await asyncio.sleep(0.001)
        raise AssertionError("the screen does not come to rest")

    def _thinks(self) -> bool:
        """Whether something is being done, and nobody is asked about it."""
        acts = [worker for worker in self.app.workers if worker.name == "act" and not worker.is_finished]
        return bool(acts) and not isinstance(self.app.screen, ModalScreen)

    def lines(self) -> list[str]:
        """What the terminal shows, without styles."""
        return ["".join(segment.text for segment in strip).rstrip() for strip in self._strips()]

    def text(self) -> str:
        """The same as one text."""
        return "\n".join(self.lines())

    def styles(self) -> list[str]:
        """The style of each span on each line."""
        return [
            " | ".join(f"{segment.style}: {segment.text.rstrip()}" for segment in strip if segment.text.strip())
            for strip in self._strips()
        ]

    def _strips(self) -> Any:
        return self.app.screen._compositor.render_strips(self.app.size)


def frozen(scenario: ScenarioName = "expired", *, recorded: bool = False, seed: int = 1) -> DemoSource:
    """A made-up appliance at one moment."""
    return DemoSource(
        seed,
        scenario,
        now=lambda: FROZEN_MOMENT,
        frozen=True,
        recorded=recorded,
        history_seconds=HISTORY_SECONDS,
    )


@contextlib.asynccontextmanager
async def driven(
    source: Source,
    *,
    size: tuple[int, int] = (80, 24),
    glyphs: Glyphs = ASCII,
    language: Language = "en",
    theme: ThemeName = "dark",
    read_only: bool = False,
) -> AsyncIterator[Driven]:
    """A dashboard that shows it."""
    clock = Clock()
    options = Options(theme=theme, read_only=read_only, rate=_NEVER, clock=clock, wall=lambda: FROZEN_MOMENT)
    app = Dashboard(source, Look(glyphs, ZONE, language), options)
    async with app.run_test(size=size) as pilot:
        made = Driven(app, pilot, clock)
        while app.board.snapshot is None:
            await pilot.pause(0)
        await made.settle()
        clock.now += 0.4
        yield made


@contextlib.asynccontextmanager
async def in_state(state: State, size: tuple[int, int], glyphs: Glyphs) -> AsyncIterator[Driven]:
    """A dashboard in one of the states that every screen has."""
    source = frozen("empty" if state == "empty" else "expired", recorded=state == "replay")
    async with driven(source, size=size, glyphs=glyphs) as made:
        if state in ("stale", "disconnected"):
            # Each screen has its answers from before.
            for key in "1234567":
                await made.press(key)
            made.clock.now += 13.6
        if state == "disconnected":
            made.app.on_gone(Gone("connection refused", 4.0))
        await made.settle()
        yield made


GLYPHS: Final = {"ascii": ASCII, "utf8": UTF8}
