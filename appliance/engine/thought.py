"""Ends what a model thinks where it has thought enough."""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Iterable

from appliance.chat import Tools, answer_parser
from appliance.types import AnswerFormat


class ThoughtBudget:
    """Of one sequence; belongs to the engine thread.

    tokens_max: with so many tokens a thought is over. closing: the tokens that end it, which are then drawn in the
    place of what the model would draw, and count as tokens of the answer like any other.
    """

    def __init__(self, answer: AnswerFormat, tokens_max: int, closing: Iterable[int]) -> None:
        assert tokens_max >= 0
        self._parser = answer_parser(answer, Tools())
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._left = tokens_max
        self._closing = tuple(closing)
        self._forced: deque[int] = deque()
        self._over = False
        self._force()

    @property
    def forced(self) -> int | None:
        """The token that is to be drawn next, whatever the model wants; None where it is free."""
        return self._forced[0] if self._forced else None

    def drew(self, piece: bytes) -> None:
        """A token was drawn, with this text."""
        if self._forced:
            self._forced.popleft()
            return
        if self._over:
            return
        thinking = self._parser.thinking
        self._parser.feed(self._decoder.decode(piece))
        if thinking and self._parser.thinking:
            self._left -= 1
        self._force()

    def _force(self) -> None:
        """Once: a model that begins another thought has been told already."""
        if not self._over and self._parser.thinking and self._left <= 0:
            self._over = True
            self._forced.extend(self._closing)
