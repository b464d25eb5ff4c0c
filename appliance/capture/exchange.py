"""One captured request: what the API hands over, and the two parts that are stored of it. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import msgspec
from msgspec import Raw, Struct

from appliance.errors import ErrorCode
from appliance.telemetry.request_record import Outcome, RequestRecord
from appliance.types import FinishReason

_CHAT: Final = "/chat/completions"
_SEVERAL: Final = ("/messages", "/responses")


class CapturedChoice(Struct, frozen=True, kw_only=True):
    """One answer. reason: None where it did not come to its end. bytes_cut: what is missing at its end."""

    text: str
    reason: FinishReason | None = None
    bytes_cut: int = 0


class Exchange(Struct, frozen=True, kw_only=True):
    """A request that has ended. body: as it was received. bytes_max: what prompt and answers together may take."""

    record: RequestRecord
    body: bytes
    choices: tuple[CapturedChoice, ...]
    bytes_max: int

    @property
    def held_bytes(self) -> int:
        """About what it takes in memory."""
        return len(self.body) + sum(len(choice.text) for choice in self.choices)


class Head(Struct, frozen=True, kw_only=True):
    """What is listed: nothing of the text itself. Sizes are UTF-8 bytes as they were, before `bytes_cut` went."""

    request_id: str
    time: datetime
    principal: str
    model: str
    endpoint: str
    outcome: Outcome
    error_code: ErrorCode | None
    finish_reason: FinishReason | None
    choices: int
    prompt_bytes: int
    answer_bytes: int
    bytes_cut: int


class Content(Struct, frozen=True, kw_only=True):
    """The text. prompt: the JSON of the body's `messages` or `prompt`, or the body. prompt_bytes_cut: what it lacks."""

    prompt: str
    prompt_bytes_cut: int
    choices: tuple[CapturedChoice, ...]


class _Received(Struct, frozen=True):
    messages: Raw = Raw()
    prompt: Raw = Raw()


def parts_of(exchange: Exchange) -> tuple[Head, Content]:
    """What is stored. The prompt gets the room that the answers left, so that both together are within bytes_max."""
    record, choices = exchange.record, exchange.choices
    received = _prompt_of(exchange.body, record.path)
    kept = sum(len(choice.text.encode()) for choice in choices)
    prompt, prompt_cut = cut_text(received, max(0, exchange.bytes_max - kept))
    answers_cut = sum(choice.bytes_cut for choice in choices)
    head = Head(
        request_id=record.id,
        time=datetime.fromtimestamp(record.time, UTC),
        principal=record.principal or "",
        model=record.model or "",
        endpoint=record.path,
        outcome=record.outcome,
        error_code=record.error_code,
        finish_reason=record.finish_reason,
        choices=len(choices),
        prompt_bytes=len(received),
        answer_bytes=kept + answers_cut,
        bytes_cut=prompt_cut + answers_cut,
    )
    return head, Content(prompt=prompt, prompt_bytes_cut=prompt_cut, choices=choices)


def cut_text(text: bytes, bytes_max: int) -> tuple[str, int]:
    """The beginning of some UTF-8, of whole characters, and how many bytes are missing; what is no UTF-8 counts too."""
    kept = text[:bytes_max].decode("utf-8", "ignore")
    return kept, len(text) - len(kept.encode())


def _prompt_of(body: bytes, path: str) -> bytes:
    """The part of the body that the endpoint answers; the body itself where it has none.

    In those of some endpoints that is several: the system's text is beside the messages.
    """
    if path.endswith(_SEVERAL):
        return body
    received = msgspec.json.decode(body, type=_Received)
    return bytes(received.messages if path.endswith(_CHAT) else received.prompt) or body
