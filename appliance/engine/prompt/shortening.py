"""Which turns of a conversation that is too long are left out. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.types import ChatMessage


def without_oldest(messages: Sequence[ChatMessage], share: float) -> tuple[ChatMessage, ...] | None:
    """The same without its oldest turns, with at least this share of all characters; None where nothing can go.

    The system's turns stay, and the last turn. Results whose call has gone go with it.
    """
    left_out: set[int] = set()
    gone, enough = 0, share * sum(map(_chars, messages))
    for index, message in enumerate(messages[:-1]):
        if message.role == "system":
            continue
        if left_out and gone >= enough and message.role != "tool":
            break
        left_out.add(index)
        gone += _chars(message)
    if not left_out:
        return None
    return tuple(message for index, message in enumerate(messages) if index not in left_out)


def _chars(message: ChatMessage) -> int:
    """About what it takes; a turn takes something in any case."""
    calls = sum(len(call.function.name) + len(call.function.arguments) for call in message.tool_calls)
    return 1 + len(message.content) + len(message.reasoning_content or "") + calls
