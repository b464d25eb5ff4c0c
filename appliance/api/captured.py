"""What is captured of one request while it is answered."""

from __future__ import annotations

from typing import Protocol

from appliance.capture.exchange import CapturedChoice, Exchange, cut_text
from appliance.models.stream import AnswerEnd, ChoiceEnd, Text
from appliance.telemetry.request_record import RequestRecord
from appliance.types import FinishReason


class CaptureSink(Protocol):
    """Where captured requests go. Neither call blocks or raises."""

    def bytes_max(self, principal: str) -> int | None:
        """How much of a request of this principal is kept; None where nothing is."""
        ...

    def keep(self, exchange: Exchange) -> None:
        """Takes a request that has ended."""
        ...


class CapturedRequest:
    """The prompt as it was received, and the answers as they go out.

    Prompt and answers share bytes_max; neither takes more than half of it from the other.
    """

    __slots__ = ("_body", "_bytes_max", "_capture", "_choices", "_left")

    def __init__(self, capture: CaptureSink, body: bytes, n: int, bytes_max: int) -> None:
        self._capture = capture
        self._body = body
        self._bytes_max = bytes_max
        self._left = bytes_max - min(len(body), bytes_max // 2)
        self._choices = [_Choice() for _ in range(n)]

    def saw(self, event: Text | ChoiceEnd | AnswerEnd) -> None:
        """`event` goes to the client."""
        choice = self._choices[event.choice]
        if isinstance(event, ChoiceEnd):
            choice.reason = event.reason
            return
        text = event.text
        size = len(text) if text.isascii() else len(text.encode())
        # Nothing follows a gap.
        if choice.cut or size > self._left:
            kept, cut = cut_text(text.encode(), 0 if choice.cut else self._left)
            choice.cut += cut
            text, size = kept, size - cut
        self._left -= size
        choice.text.append(text)

    def end(self, record: RequestRecord) -> None:
        """The request has ended, with this record."""
        choices = tuple(
            CapturedChoice(text="".join(choice.text), reason=choice.reason, bytes_cut=choice.cut)
            for choice in self._choices
        )
        self._capture.keep(Exchange(record=record, body=self._body, choices=choices, bytes_max=self._bytes_max))


class _Choice:
    __slots__ = ("cut", "reason", "text")

    def __init__(self) -> None:
        self.text: list[str] = []
        self.reason: FinishReason | None = None
        self.cut = 0
