"""How the answers of one model are to be read."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from msgspec.structs import replace

from appliance.chat import closing_text, markers_in, opens_reasoning, reasoning_format_of, tool_format_of
from appliance.chat.constraint import MARKERS, ForcedCalls, forced_calls
from appliance.engine.prompt.mending import taught_format
from appliance.types import CONTINUED, AnswerFormat, CallChoice, ChatPrompt, ModelSpec, Reading


class MarkerVocabulary(Protocol):
    """What the model's vocabulary must offer here."""

    def control_tokens(self, texts: Collection[str]) -> Mapping[int, bytes]:
        """Of these texts those that are one control token each, which an answer does not show."""
        ...

    def tokenize(self, text: str, reading: Reading) -> list[int]:
        """The tokens of a text."""
        ...


class Answers:
    """Immutable once made; belongs to the io thread.

    format: what the model's chat template says, or models.yaml in its place. closing: tokens that end a thought.
    """

    def __init__(self, template: str, spec: ModelSpec, vocabulary: MarkerVocabulary) -> None:
        tools, reasoning = spec.tool_format, spec.reasoning_format
        self._given = tools != "auto"
        self.format = AnswerFormat(
            tools=tool_format_of(template) if tools == "auto" else tools,
            reasoning=reasoning_format_of(template) if reasoning == "auto" else reasoning,
        )
        closing = closing_text(self.format.reasoning)
        self.closing = tuple(vocabulary.tokenize(closing, CONTINUED)) if closing else ()
        self._spoken = {
            with_tools: vocabulary.control_tokens(markers_in(self.format, with_tools=with_tools))
            for with_tools in (False, True)
        }
        self._call_markers = vocabulary.control_tokens(MARKERS)

    def format_of(self, text: str, *, shows_tools: bool) -> AnswerFormat:
        """Of the answer to a rendered prompt. shows_tools: the template has described them itself."""
        tools = self.format.tools if shows_tools or self._given else taught_format(self.format.tools)
        return replace(self.format, tools=tools, thinking=opens_reasoning(text, self.format.reasoning))

    def spoken(self, prompt: ChatPrompt) -> Mapping[int, bytes]:
        """Control tokens that must come out as text."""
        return self._spoken[bool(prompt.tools)]

    def forced(
        self, answer: AnswerFormat, tools: Sequence[Mapping[str, Any]], choice: CallChoice
    ) -> tuple[ForcedCalls, Mapping[int, bytes]]:
        """What keeps an answer to calls, where it would be of this format, and the control tokens those come with."""
        tokens = {text.decode(): token for token, text in self._call_markers.items()}
        forced = forced_calls(answer.tools, tools, only=choice.only, parallel=choice.parallel, tokens=tokens)
        used = {token: text for token, text in self._call_markers.items() if text.decode() in forced.markers}
        return forced, used
