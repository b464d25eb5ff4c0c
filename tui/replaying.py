"""Shows the recording instead of what is now: fetches stretches of it, and moves through them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from textual.message import Message

from appliance.errors import ApplianceError
from appliance.safe_text import safe_text
from tui.acting import Stage
from tui.ingest import safe
from tui.messages import Said
from tui.proposals.others import replay_from
from tui.replay import STRETCH_SECONDS, Replay, moment_of
from tui.screens.confirm import Confirm
from tui.source import Source

PLAY_SECONDS: Final = 1.0


class Replaying:
    """`ask` and `fetch` each run as a worker; the rest is of the app's handlers, which alone change the board.

    wall: UTC seconds since 1970.
    """

    def __init__(
        self, app: Stage, source: Source, post: Callable[[Message], object], wall: Callable[[], float]
    ) -> None:
        self._app = app
        self._source = source
        self._board = app.board
        self._look = app.look
        self._post = post
        self._wall = wall

    async def ask(self) -> None:
        """For a time, and fetches it."""
        app, look = self._app, self._look
        values = await app.ask_over(Confirm(replay_from(), (), look, app.theme_name, lambda: None))
        if values is None:
            return
        moment = moment_of(values["time"], self._wall(), look.zone)
        if moment is None:
            self._post(Said(look.say("this is no time of before: 02:30, 2026-11-20 02:30, or 15m")))
        else:
            await self.fetch(moment)

    async def fetch(self, moment: float) -> None:
        """The stretch around a moment; posts what it finds."""
        since = moment - STRETCH_SECONDS / 2
        try:
            found = await self._source.recording(since, min(since + STRETCH_SECONDS, self._wall()))
        except ApplianceError as error:
            self._post(Said(safe_text(str(error), 400)))
            return
        if found:
            self._post(Fetched(Replay([safe(one) for one in found], moment)))
        else:
            self._post(Said(self._look.say("nothing is recorded of that time")))

    def show(self, replay: Replay) -> None:
        """From now on."""
        old = self._board.replay
        replay.playing = old is not None and old.playing
        self._board.replay = replay

    def move(self, seconds: float) -> float | None:
        """So far on, or back; a step where it is one second. The moment to fetch, where this stretch has it not."""
        replay = self._board.replay
        if replay is None:
            return self._wall() + min(0.0, seconds) - 1.0
        before = replay.shown.time
        there = replay.step(1 if seconds > 0 else -1) if abs(seconds) == 1.0 else replay.skip(seconds)
        wanted = before + seconds
        if there or wanted > self._wall():
            return None
        return wanted

    def play(self) -> None:
        """Goes on by itself, or stops."""
        if self._board.replay is not None:
            self._board.replay.playing = not self._board.replay.playing

    def leave(self) -> bool:
        """Back to what is now; False where it was shown already."""
        was, self._board.replay = self._board.replay, None
        return was is not None


class Fetched(Message):
    """A stretch of the recording; it is safe to show."""

    def __init__(self, replay: Replay) -> None:
        super().__init__()
        self.replay = replay
