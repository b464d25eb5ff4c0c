"""What holds for every format: however an answer is cut, it means the same; nothing raises and nothing is lost."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.chat import Call, Content, Part, Reasoning, Tools, answer_parser, joined, markers_in, parts_of
from appliance.types import AnswerFormat, ReasoningFormat, ToolFormat
from tests.unit.chat.recordings import RECORDINGS, TOOLS, Recording

TOOL_FORMATS: tuple[ToolFormat, ...] = get_args(ToolFormat)
REASONING_FORMATS: tuple[ReasoningFormat, ...] = get_args(ReasoningFormat)
ALL_MARKERS = sorted(
    {
        marker
        for tools in TOOL_FORMATS
        for reasoning in REASONING_FORMATS
        for marker in markers_in(AnswerFormat(tools=tools, reasoning=reasoning), with_tools=True)
    }
)
PIECES = [
    *ALL_MARKERS,
    '{"name": "now", "arguments": {}}',
    "now",
    "[now()]",
    '"',
    "\\",
    "{",
    "}",
    "[",
    "]",
    "\n",
    " ",
    "北",
]

every_recording = pytest.mark.parametrize("recording", RECORDINGS, ids=lambda recording: recording.name)


def read(answer: AnswerFormat, pieces: Iterable[str], tools: Tools = TOOLS) -> list[Part]:
    parser = answer_parser(answer, tools)
    parts = [part for piece in pieces for part in parser.feed(piece)]
    return joined([*parts, *parser.end()])


def said(parts: list[Part]) -> str:
    return "".join(part.text for part in parts if not isinstance(part, Call))


@every_recording
def test_a_whole_answer(recording: Recording) -> None:
    assert read(recording.answer, [recording.text]) == recording.parts


@every_recording
def test_an_answer_in_two(recording: Recording) -> None:
    for at in range(len(recording.text) + 1):
        assert read(recording.answer, [recording.text[:at], recording.text[at:]]) == recording.parts


@every_recording
def test_an_answer_letter_by_letter(recording: Recording) -> None:
    assert read(recording.answer, recording.text) == recording.parts


@every_recording
def test_an_answer_that_is_cut_off(recording: Recording) -> None:
    whole = [part for part in recording.parts if isinstance(part, Call)]
    for at in range(len(recording.text) + 1):
        parts = read(recording.answer, [recording.text[:at]])
        # In pieces of one letter up to five: letter by letter every time would take most of this file's time.
        size = at % 5 + 1
        assert parts == read(recording.answer, [recording.text[i : min(i + size, at)] for i in range(0, at, size)])
        calls = [part for part in parts if isinstance(part, Call)]
        if recording.tools != "harmony":
            assert calls == whole[: len(calls)], "a call that is cut off must not be made"
        for call in calls:
            assert isinstance(json.loads(call.arguments), dict)


@every_recording
def test_without_tools_no_text_is_lost(recording: Recording) -> None:
    answer = AnswerFormat(tools=recording.tools)
    parts = read(answer, recording.text, Tools())
    if recording.tools != "harmony":
        assert parts == [Content(recording.text)]


@every_recording
def test_only_the_first_call(recording: Recording) -> None:
    parser = answer_parser(recording.answer, TOOLS, calls_max=1)
    parts = [*parser.feed(recording.text), *parser.end()]
    first = next((index for index, part in enumerate(recording.parts) if isinstance(part, Call)), None)
    assert parser.done == (first is not None)
    assert joined(parts) == (recording.parts if first is None else recording.parts[: first + 1])


@given(
    st.sampled_from(TOOL_FORMATS),
    st.sampled_from(REASONING_FORMATS),
    st.booleans(),
    st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=20),
    st.integers(1, 9),
)
def test_any_text_however_it_is_cut(
    tools: ToolFormat, reasoning: ReasoningFormat, thinking: bool, pieces: list[str], size: int
) -> None:
    answer, text = AnswerFormat(tools=tools, reasoning=reasoning, thinking=thinking), "".join(pieces)
    parts = parts_of(answer_parser(answer, TOOLS), text)
    assert read(answer, pieces) == parts
    assert read(answer, [text[at : at + size] for at in range(0, len(text), size)]) == parts
    for part in parts:
        if isinstance(part, Call):
            assert part.name in TOOLS
            assert isinstance(json.loads(part.arguments), dict)
        else:
            assert part.text


@given(st.sampled_from(TOOL_FORMATS), st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=12))
def test_without_a_call_every_letter_comes_out(tools: ToolFormat, pieces: list[str]) -> None:
    answer, text = AnswerFormat(tools=tools), "".join(pieces)
    parts = read(answer, pieces)
    if tools != "harmony" and not any(isinstance(part, Call) for part in parts):
        assert said(parts) == text


@pytest.mark.parametrize("tools", TOOL_FORMATS)
def test_plain_text_goes_on_at_once(tools: ToolFormat) -> None:
    parser = answer_parser(AnswerFormat(tools=tools, reasoning="think"), TOOLS)
    if tools != "harmony":
        assert [said(parser.feed(word)) for word in ("The", " cat", " sat", ".")] == ["The", " cat", " sat", "."]


@pytest.mark.parametrize("marker", ALL_MARKERS)
def test_the_time_is_linear(marker: str) -> None:
    """Many markers, none of which leads to anything; whole and in small pieces."""

    def seconds(count: int) -> float:
        text = marker * count
        began = time.process_time()
        for tools in TOOL_FORMATS:
            answer = AnswerFormat(tools=tools, reasoning="think")
            parts_of(answer_parser(answer, TOOLS), text)
        return time.process_time() - began

    seconds(10)
    few = min(seconds(200) for _ in range(3))
    assert any(seconds(1600) < 40 * few + 0.02 for _ in range(2))


def test_what_a_model_thinks_can_stay_in_the_text() -> None:
    text = "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b"
    assert read(AnswerFormat(tools="harmony"), text) == [Content("ab")]
    assert read(AnswerFormat(tools="hermes"), "<think>a</think>b") == [Content("<think>a</think>b")]


def test_whether_it_thinks() -> None:
    parser = answer_parser(AnswerFormat(reasoning="think"), TOOLS)
    states = []
    for piece in ("<thi", "nk>", "a", "</thi", "nk>", "b"):
        parser.feed(piece)
        states.append(parser.thinking)
    assert states == [False, True, True, True, False, False]
    assert answer_parser(AnswerFormat(reasoning="think", thinking=True), TOOLS).thinking


def test_a_thought_that_never_ends_is_a_thought() -> None:
    assert read(AnswerFormat(reasoning="think"), "<think>a </thi") == [Reasoning("a </thi")]
