"""Parts what a model thinks from what it answers, while it writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal, assert_never

from appliance.chat.markers import SPACE_MAX, MarkerSearch, solid
from appliance.chat.parts import Content, Part, Reasoning
from appliance.types import ReasoningFormat

# What opens and what closes it.
THOUGHTS: Final[Mapping[ReasoningFormat, tuple[str, str]]] = {
    "think": ("<think>", "</think>"),
    "mistral": ("[THINK]", "[/THINK]"),
    "seed": ("<seed:think>", "</seed:think>"),
    "command_r": ("<|START_THINKING|>", "<|END_THINKING|>"),
    "apertus": ("<|inner_prefix|>", "<|inner_suffix|>"),
    "gemma": ("<|channel>thought", "<channel|>"),
}


_State = Literal["start", "prompted", "opened", "thinking", "closed", "answer"]


class ReasoningParser:
    """Text in; Reasoning and Content out. Belongs to one answer.

    Only what stands first is reasoning: a model may write about these markers later. White space at the edges of both
    is dropped. thinking: the answer begins inside. also_closes: markers of calls, which end it and stay in the text.
    """

    def __init__(self, reasoning: ReasoningFormat, *, thinking: bool, also_closes: Iterable[str] = ()) -> None:
        self._open, self._close = THOUGHTS[reasoning]
        self._closes = MarkerSearch((self._close, *also_closes))
        self._state: _State = "prompted" if thinking else "start"
        self._held = ""

    @property
    def thinking(self) -> bool:
        """Whether the text so far ends in what the model thinks."""
        return self._state in ("prompted", "opened", "thinking")

    def feed(self, text: str) -> list[Part]:
        """Takes the next text."""
        text, self._held = self._held + text, ""
        parts: list[Part] = []
        while text:
            text = self._step(text, parts)
        return parts

    def end(self) -> list[Part]:
        """The answer is over: gives back what was held."""
        text, self._held = self._held, ""
        if not text or (self.thinking and text.isspace()):
            return []
        return [Reasoning(text) if self.thinking else Content(text)]

    def _step(self, text: str, parts: list[Part]) -> str:
        """Returns what is to be looked at next."""
        match self._state:
            case "start" | "prompted":
                return self._at_start(text)
            case "opened" | "closed":
                text = text.lstrip()
                if text:
                    self._state = "thinking" if self._state == "opened" else "answer"
                return text
            case "thinking":
                return self._in_thought(text, parts)
            case "answer":
                parts.append(Content(text))
                return ""
            case _:
                assert_never(self._state)

    def _at_start(self, text: str) -> str:
        """A model that was made to think may still open its thought itself."""
        stripped = text.lstrip()
        if len(text) - len(stripped) <= SPACE_MAX:
            if stripped.startswith(self._open):
                self._state = "opened"
                return stripped[len(self._open) :]
            if self._open.startswith(stripped):
                self._held = text
                return ""
        self._state = "opened" if self._state == "prompted" else "answer"
        return text

    def _in_thought(self, text: str, parts: list[Part]) -> str:
        found = self._closes.find(text)
        border = found.start() if found is not None else len(text) - self._closes.partial(text)
        said = solid(text[:border])
        if said:
            parts.append(Reasoning(text[:said]))
        if found is None:
            self._held = text[said:]
            return ""
        self._state = "closed"
        return text[found.end() if found[0] == self._close else found.start() :]
