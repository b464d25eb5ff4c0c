"""An answer that no model makes now: one that is known already, or was written by the operator."""

from __future__ import annotations

from collections import deque

from appliance.models.stream import AnswerEnd, AnswerEvent, ChoiceEnd, Origin, Text
from appliance.types import FinishReason, Usage
from appliance.wire import Started

NO_USAGE = Usage(prompt_tokens=0, completion_tokens=0)


class FixedAnswer:
    """The same text for each of `n` choices. An AnswerSource; everything is there at once.

    origin: who made it, where that was a model.
    """

    def __init__(
        self,
        text: str,
        n: int = 1,
        reason: FinishReason = "stop",
        usage: Usage = NO_USAGE,
        origin: Origin | None = None,
    ) -> None:
        self.origin = origin
        self._events: deque[AnswerEvent] = deque()
        for choice in range(n):
            self._events.append(Text(choice=choice, text=text, tokens=0))
            if choice < n - 1:
                self._events.append(ChoiceEnd(choice=choice, reason=reason))
        self._events.append(AnswerEnd(choice=n - 1, reason=reason, usage=usage, timings=None))

    @property
    def started(self) -> Started | None:
        """No worker has begun."""
        return None

    @property
    def attempts(self) -> int:
        """No worker has tried."""
        return 0

    def nudge(self) -> None:
        """Nobody ever waits."""

    def expire(self) -> None:
        """It takes no time."""

    async def next(self) -> AnswerEvent | None:
        """See AnswerSource."""
        return self._events.popleft()
