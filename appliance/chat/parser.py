"""The one parser of an answer: what it thinks, what it says, what it calls."""

from __future__ import annotations

from typing import Protocol

from appliance.chat.calls import CallParser
from appliance.chat.harmony import HarmonyParser
from appliance.chat.parts import Content, Part, Reasoning, joined
from appliance.chat.reasoning import ReasoningParser
from appliance.chat.syntax import SYNTAXES
from appliance.chat.tools import Tools
from appliance.types import AnswerFormat


class AnswerParser(Protocol):
    """Text in, parts out; belongs to one answer. However the text is cut, the parts joined are the same.

    No text makes it raise, and its time is linear in it. What cannot be the beginning of a marker goes on at once.
    """

    @property
    def thinking(self) -> bool:
        """Whether the text so far ends in what the model thinks."""
        ...

    @property
    def done(self) -> bool:
        """Whether nothing that follows counts: there were `calls_max` calls."""
        ...

    def feed(self, text: str) -> list[Part]:
        """Takes the next text."""
        ...

    def end(self) -> list[Part]:
        """The answer is over: gives back what was held."""
        ...


def answer_parser(answer: AnswerFormat, tools: Tools, calls_max: int | None = None) -> AnswerParser:
    """Reads an answer of that format. tools: of the request; without any, calls are text like any other.

    calls_max: what comes after so many calls is dropped.
    """
    if answer.tools == "harmony" or answer.reasoning == "harmony":
        parser = HarmonyParser(tools, calls_max)
        return parser if answer.reasoning != "none" else _Spoken(parser)
    syntax = SYNTAXES[answer.tools]
    calls = CallParser(syntax, tools, calls_max) if tools and answer.tools != "none" else None
    if answer.reasoning == "none":
        return _Both(None, calls)
    special = [marker for marker in syntax.begins if "|" in marker or "｜" in marker] if calls is not None else []
    return _Both(ReasoningParser(answer.reasoning, thinking=answer.thinking, also_closes=special), calls)


def parts_of(parser: AnswerParser, text: str) -> list[Part]:
    """A whole answer at once."""
    return joined([*parser.feed(text), *parser.end()])


class _Both:
    """First what it thinks is parted off, then what it calls."""

    def __init__(self, reasoning: ReasoningParser | None, calls: CallParser | None) -> None:
        self._reasoning = reasoning
        self._calls = calls

    @property
    def thinking(self) -> bool:
        return self._reasoning is not None and self._reasoning.thinking

    @property
    def done(self) -> bool:
        return self._calls is not None and self._calls.done

    def feed(self, text: str) -> list[Part]:
        return self._called(self._reasoning.feed(text) if self._reasoning is not None else [Content(text)])

    def end(self) -> list[Part]:
        parts = self._called(self._reasoning.end() if self._reasoning is not None else [])
        return [*parts, *self._calls.end()] if self._calls is not None else parts

    def _called(self, parts: list[Part]) -> list[Part]:
        if self._calls is None:
            return [part for part in parts if not isinstance(part, Content) or part.text]
        out: list[Part] = []
        for part in parts:
            out += self._calls.feed(part.text) if isinstance(part, Content) else [part]
        return out


class _Spoken:
    """What a model thinks is part of what it says."""

    def __init__(self, parser: AnswerParser) -> None:
        self._parser = parser

    @property
    def thinking(self) -> bool:
        return False

    @property
    def done(self) -> bool:
        return self._parser.done

    def feed(self, text: str) -> list[Part]:
        return [_spoken(part) for part in self._parser.feed(text)]

    def end(self) -> list[Part]:
        return [_spoken(part) for part in self._parser.end()]


def _spoken(part: Part) -> Part:
    return Content(part.text) if isinstance(part, Reasoning) else part
