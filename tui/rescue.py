"""What can be done while the appliance does not answer: look at its host, write a bundle, read what to do."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from textual.message import Message

from appliance.safe_text import safe_lines
from tui.acting import Stage
from tui.ingest import safe
from tui.messages import Surrounded
from tui.proposals.others import diagnose
from tui.screens.confirm import Confirm
from tui.sentence import sentence
from tui.source import Source

BUNDLE_SECONDS: Final = 120.0
_OUTPUT_CHARS_MAX: Final = 8000


class Rescue:
    """appliance: the options of the command line that name this appliance. wall: UTC seconds since 1970."""

    def __init__(
        self,
        app: Stage,
        source: Source,
        post: Callable[[Message], object],
        appliance: tuple[str, ...],
        wall: Callable[[], float],
    ) -> None:
        self._app = app
        self._source = source
        self._post = post
        self._appliance = appliance
        self._wall = wall

    async def look_around(self) -> None:
        """At this host, where the appliance is on it."""
        self._post(Surrounded(safe(await self._source.surroundings())))

    async def write_bundle(self) -> None:
        """In a process of its own, beside everything else."""
        app = self._app
        name = f"diagnose-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(self._wall()))}.tar.gz"
        proposal = diagnose(self._appliance, str(Path.cwd() / name))
        values = await app.ask_over(Confirm(proposal, (), app.look, app.theme_name, lambda: None))
        if values is None:
            return
        doing = app.look.say("diagnose bundle")
        app.board.acts.append(doing)
        app.paint()
        try:
            told = await self._run("diagnose", "bundle", *self._appliance, "--out", values["out"])
        finally:
            app.board.acts.remove(doing)
        app.show_text(app.look.say("DIAGNOSE BUNDLE"), told)

    async def runbook(self, alert: str) -> None:
        """What to do about an alert, from the handbook that is shipped; it needs no daemon."""
        app = self._app
        app.show_text(alert, await self._run("alerts", "explain", alert, "--lang", app.look.language))

    async def _run(self, *words: str) -> str:
        """What the command says; safe to show."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "appliance", *words),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(BUNDLE_SECONDS):
                told, _ = await process.communicate()
        except TimeoutError:
            return self._app.look.say(
                sentence("it did not end within {seconds} s, and was stopped", seconds=round(BUNDLE_SECONDS))
            )
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return safe_lines(told.decode(errors="replace"))[-_OUTPUT_CHARS_MAX:]
