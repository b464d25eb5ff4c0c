"""How one endpoint writes its answers: what `respond` needs of it, and the object every chunk is."""

from __future__ import annotations

import time
from typing import Literal, Protocol

from msgspec import UNSET

from appliance.api.openai_schema import Choice, CompletionObject, UsageOut
from appliance.types import FinishReason, Usage


class Shape(Protocol):
    """The chunks and the body of one answer."""

    def opening(self) -> list[CompletionObject]:
        """Chunks before the first text."""
        ...

    def delta(self, text: str) -> CompletionObject:
        """The chunk of some text."""
        ...

    def finish(self, reason: FinishReason, usage: Usage) -> CompletionObject:
        """The last chunk with a choice: the only one with a finish_reason; it always has the usage."""
        ...

    def usage(self, usage: Usage) -> CompletionObject:
        """The chunk with `choices: []`, for clients that asked for usage."""
        ...

    def whole(self, text: str, reason: FinishReason, usage: Usage) -> CompletionObject:
        """The body of a blocking call."""
        ...


class AnswerObjects:
    """Makes the objects of one answer: all carry the same id, model and time."""

    def __init__(self, answer_id: str, model: str) -> None:
        self._id = answer_id
        self._model = model
        self._created = int(time.time())

    def make(
        self,
        kind: Literal["chat.completion", "chat.completion.chunk", "text_completion"],
        *choices: Choice,
        usage: Usage | None = None,
    ) -> CompletionObject:
        """One object of `kind`."""
        return CompletionObject(
            id=self._id,
            object=kind,
            created=self._created,
            model=self._model,
            choices=list(choices),
            usage=UNSET if usage is None else UsageOut.of(usage),
        )
