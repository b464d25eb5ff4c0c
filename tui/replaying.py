"""Shows the recording instead of what is now: fetches stretches of it, and moves through them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from textual.message import Message

from appliance.errors import ApplianceError
from appliance.safe_text import safe_text
from tui.board import Board
from tui.ingest import safe
from tui.look import Look
from tui.messages import Said
from tui.replay import STRETCH_SECONDS, Replay
from tui.source import Source

PLAY_SECONDS: Final = 1.0


class Replaying:
    """Its methods but `fetch` are of the app's handlers, which alone change the board. wall: UTC seconds since 1970."""

    def __init__(
        self,
        source: Source,
        board: Board,
        look: Look,
        post: Callable[[Message], object],
        wall: Callable[[], float],
    ) -> None:
        self._source = source
        self._board = board
        self._look = look
        self._post = post
        self._wall = wall

    async def fetch(self, moment: float) -> None:
        """The stretch around a moment; posts what it finds. In a worker."""
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
