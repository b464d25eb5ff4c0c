"""A screen that shows what the admin API answers, asked again now and then while it is in sight."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Final

from textual.message import Message

from appliance.errors import ApplianceError
from appliance.safe_text import safe_text
from tui.board import Board
from tui.lines import Line
from tui.look import Look
from tui.screens.screen import DashboardScreen

ASK_SECONDS: Final = 5.0
Ask = Callable[[str], Awaitable[Any]]


class AskingScreen(DashboardScreen):
    """questions: the paths that it asks. Answers come as messages; `answered` takes them."""

    questions: ClassVar[tuple[str, ...]] = ()

    class Answered(Message):
        """The answer to a question, or why there is none. refused: it is not for this role."""

        def __init__(self, path: str, answer: Any, trouble: str | None = None, *, refused: bool = False) -> None:
            super().__init__()
            self.path = path
            self.answer = answer
            self.trouble = trouble
            self.refused = refused

    def __init__(self, look: Look, board: Board, ask: Ask, *, id: str) -> None:
        super().__init__(look, board, id=id)
        self._ask = ask
        self._asked: float | None = None
        # When it was painted last.
        self._now: float | None = None
        self.trouble: str | None = None
        # Questions that were answered, and why this role is not, by the question.
        self._known: set[str] = set()
        self.refused: dict[str, str] = {}

    def ask_again(self, now: float) -> None:
        """Asks where the answers are old; a paused dashboard asks nothing."""
        self._now = now
        if self.board.paused or self.board.lost is not None:
            return
        if self._asked is None or now - self._asked >= ASK_SECONDS:
            self._asked = now
            self.ask(*self.questions)

    def forget(self) -> None:
        """The answers are old: it asks at the next paint."""
        self._asked = None

    def ask(self, *paths: str) -> None:
        """Asks these questions, one after the other, beside everything else."""

        async def work() -> None:
            for path in paths:
                try:
                    self.post_message(self.Answered(path, await self._ask(path)))
                except ApplianceError as error:
                    refused = getattr(error, "code", "") == "forbidden"
                    self.post_message(self.Answered(path, None, safe_text(str(error), 400), refused=refused))

        self.run_worker(work(), group="questions", exclusive=True)

    def on_asking_screen_answered(self, message: AskingScreen.Answered) -> None:
        """Shows it."""
        message.stop()
        self.trouble = message.trouble
        self.refused.pop(message.path, None)
        if message.trouble is None:
            self._known.add(message.path)
            try:
                self.answered(message.path, message.answer)
            except ApplianceError as error:
                self.trouble = str(error)
        elif message.refused:
            self.refused[message.path] = message.trouble
        if self._now is not None and self.is_attached:
            self.paint(self._now)

    def knows(self, path: str) -> bool:
        """Whether a question was answered."""
        return path in self._known and path not in self.refused

    def no_rows(self, path: str, said: str) -> list[Line]:
        """Instead of rows that a question was to bring. said: where there are none."""
        if path in self.refused:
            return self.nothing("", self.refused[path])
        if path not in self._known:
            return self.nothing(self.look.say("asking the appliance"))
        return self.nothing(said)

    def answered(self, path: str, answer: Any) -> None:
        """Takes an answer. Raises ApplianceError where it cannot be read."""
        raise NotImplementedError
