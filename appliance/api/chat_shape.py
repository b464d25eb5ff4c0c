"""The chunks and the body of one chat completion."""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, cast

import msgspec
from msgspec import UNSET, Raw

from appliance.api.logprobs import chat_logprobs
from appliance.api.openai_schema import (
    ChatChoice,
    ChatChunkChoice,
    ChatCompletion,
    ChatCompletionChunk,
    ChatDelta,
    ChatLogprob,
    ChatLogprobs,
    ChatMessageOut,
    CompletionObject,
    FunctionOut,
    ToolCallDelta,
    ToolCallOut,
)
from appliance.api.shape import AnswerObjects, WholeChoice, parts_in
from appliance.chat import Call, Content, Part, Reasoning
from appliance.models.stream import ChoiceEnd, Text
from appliance.types import TokenLogprob, Usage

CallsAs = Literal["tool_calls", "function_call"]


def random_call_id() -> str:
    """Unique among all calls that one conversation will ever have."""
    return f"call_{secrets.token_hex(12)}"


class ChatShape:
    """A Shape. logprobs: the client asked for them. calls_as: where it looks for calls."""

    def __init__(
        self,
        objects: AnswerObjects,
        *,
        logprobs: bool,
        calls_as: CallsAs = "tool_calls",
        new_id: Callable[[], str] = random_call_id,
    ) -> None:
        self._objects = objects
        self._logprobs = logprobs
        self._calls_as = calls_as
        self._new_id = new_id
        self._calls: defaultdict[int, int] = defaultdict(int)
        self._unparsed: set[int] = set()
        self._held: defaultdict[int, list[TokenLogprob]] = defaultdict(list)

    def opening(self, choice: int) -> list[CompletionObject]:
        """The role comes first, alone."""
        return [self._chunk(ChatChunkChoice(ChatDelta(role="assistant", content=""), choice))]

    def delta(self, event: Text) -> list[CompletionObject]:
        """Some text. Log probabilities of what is held back come with what follows."""
        held = self._held[event.choice]
        held += event.logprobs
        deltas = [delta for part in parts_in(event) for delta in self._deltas(event.choice, part)]
        logprobs = self._take_logprobs(event.choice) if deltas else None
        return [
            self._chunk(ChatChunkChoice(delta, event.choice, logprobs if index == 0 else None))
            for index, delta in enumerate(deltas)
        ]

    def finish(self, event: ChoiceEnd, usage: Usage | None) -> CompletionObject:
        """The end of a choice."""
        unparsed = True if event.choice in self._unparsed else UNSET
        logprobs = self._take_logprobs(event.choice)
        return self._chunk(ChatChunkChoice(ChatDelta(), event.choice, logprobs, event.reason, unparsed), usage)

    def usage(self, usage: Usage) -> CompletionObject:
        """The usage alone."""
        return self._objects.make(ChatCompletionChunk, usage=usage)

    def written(self, logprobs: Sequence[TokenLogprob]) -> list[Raw]:
        """Each token's."""
        return [Raw(msgspec.json.encode(one)) for one in chat_logprobs(logprobs).content] if self._logprobs else []

    def whole(self, choices: Sequence[WholeChoice], usage: Usage) -> CompletionObject:
        """The answer as one object."""
        out = [
            ChatChoice(
                self._message(choice.parts),
                choice.reason,
                index,
                ChatLogprobs(cast(list[ChatLogprob], choice.written)) if self._logprobs else None,
                True if _has_unparsed(choice.parts) else UNSET,
            )
            for index, choice in enumerate(choices)
        ]
        return self._objects.make(ChatCompletion, *out, usage=usage)

    def _deltas(self, choice: int, part: Part) -> list[ChatDelta]:
        match part:
            case Content():
                if part.unparsed_call:
                    self._unparsed.add(choice)
                return [ChatDelta(content=part.text)]
            case Reasoning():
                return [ChatDelta(reasoning_content=part.text)]
            case Call():
                index = self._calls[choice]
                self._calls[choice] += 1
                begun, rest = FunctionOut("", part.name), FunctionOut(part.arguments)
                if self._calls_as == "function_call":
                    return [ChatDelta(function_call=begun), ChatDelta(function_call=rest)]
                return [
                    ChatDelta(tool_calls=[ToolCallDelta(index, begun, self._new_id(), "function")]),
                    ChatDelta(tool_calls=[ToolCallDelta(index, rest)]),
                ]

    def _message(self, parts: Sequence[Part]) -> ChatMessageOut:
        calls = [part for part in parts if isinstance(part, Call)]
        content = "".join(part.text for part in parts if isinstance(part, Content))
        reasoning = "".join(part.text for part in parts if isinstance(part, Reasoning))
        functions = [FunctionOut(call.arguments, call.name) for call in calls]
        as_tools = self._calls_as == "tool_calls"
        return ChatMessageOut(
            content or (None if calls else ""),
            reasoning_content=reasoning or UNSET,
            tool_calls=[ToolCallOut(self._new_id(), function) for function in functions]
            if functions and as_tools
            else UNSET,
            function_call=functions[0] if functions and not as_tools else UNSET,
        )

    def _take_logprobs(self, choice: int) -> ChatLogprobs | None:
        held = self._held.pop(choice, None)
        return chat_logprobs(held) if held else None

    def _chunk(self, choice: ChatChunkChoice, usage: Usage | None = None) -> CompletionObject:
        return self._objects.make(ChatCompletionChunk, choice, usage=usage)


def _has_unparsed(parts: Iterable[Part]) -> bool:
    return any(isinstance(part, Content) and part.unparsed_call for part in parts)
