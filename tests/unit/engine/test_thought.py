"""A thought ends where its budget does."""

from __future__ import annotations

from appliance.engine.thought import ThoughtBudget
from appliance.types import AnswerFormat

CLOSING = (7, 8)


def budget(tokens_max: int, *, thinking: bool = False, reasoning: str = "think") -> ThoughtBudget:
    answer = AnswerFormat(reasoning=reasoning, thinking=thinking)  # type: ignore[arg-type]
    return ThoughtBudget(answer, tokens_max, CLOSING)


def drawn(thought: ThoughtBudget, *pieces: str) -> list[int | None]:
    """What is forced after each token."""
    forced = []
    for piece in pieces:
        thought.drew(piece.encode())
        forced.append(thought.forced)
    return forced


def test_a_thought_that_is_too_long() -> None:
    assert drawn(budget(2), "<thi", "nk>", "a", "b", "c", "d", "e") == [None, None, None, 7, 8, None, None]


def test_a_thought_that_the_prompt_began() -> None:
    thought = budget(1, thinking=True)
    assert thought.forced is None
    assert drawn(thought, "a", "\n</think>", "\n", "b") == [7, 8, None, None]


def test_no_thought_at_all() -> None:
    assert budget(0, thinking=True).forced == 7
    assert drawn(budget(0), "<think>", "x", "y") == [7, 8, None]


def test_a_thought_that_ends_by_itself() -> None:
    assert drawn(budget(3, thinking=True), "a", "</think>", "b", "c", "d", "e") == [None] * 6


def test_an_answer_without_a_thought() -> None:
    assert drawn(budget(0), "Hello", " <think>", "x") == [None] * 3


def test_characters_that_come_in_pieces() -> None:
    thought = budget(2, thinking=True)
    for byte in "é".encode():
        thought.drew(bytes([byte]))
    assert thought.forced == 7


def test_gpt_oss() -> None:
    pieces = ("<|channel|>", "analysis", "<|message|>", "a", "b")
    assert drawn(budget(1, reasoning="harmony"), *pieces)[-2:] == [7, 8]
