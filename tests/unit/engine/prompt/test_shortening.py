"""Which turns go when a conversation is too long."""

from __future__ import annotations

import pytest

from appliance.engine.prompt.shortening import without_oldest
from appliance.types import ChatMessage, ToolCall, ToolFunction

CALL = ToolCall(function=ToolFunction(name="f", arguments="{}"), id="c")


def turn(role: str, content: str = "x" * 9, **fields: object) -> ChatMessage:
    return ChatMessage(role=role, content=content, **fields)  # type: ignore[arg-type]


def left(messages: list[ChatMessage], share: float) -> list[int]:
    kept = without_oldest(messages, share)
    assert kept is not None
    return [index for index, message in enumerate(messages) if any(message is each for each in kept)]


CHAT = [turn("system"), turn("user"), turn("assistant"), turn("user"), turn("assistant"), turn("user")]


@pytest.mark.parametrize(
    ("share", "kept"), [(0.0, [0, 2, 3, 4, 5]), (0.16, [0, 2, 3, 4, 5]), (0.17, [0, 3, 4, 5]), (1.0, [0, 5])]
)
def test_the_oldest_go_and_the_system_and_the_last_stay(share: float, kept: list[int]) -> None:
    assert left(CHAT, share) == kept


def test_results_go_with_their_call() -> None:
    chat = [turn("user"), turn("assistant", "", tool_calls=(CALL,)), turn("tool"), turn("tool"), turn("user")]
    assert left(chat, 0.3) == [4]
    assert left([turn("user"), turn("assistant", "", tool_calls=(CALL,)), turn("tool")], 1.0) == [2]


def test_where_nothing_can_go() -> None:
    assert without_oldest([turn("system"), turn("user")], 0.5) is None
    assert without_oldest([turn("user")], 0.5) is None
