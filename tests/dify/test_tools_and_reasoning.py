"""Tool calls and thoughts as Dify's own classes see them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.dify.judge_process import LLM, Judge, needs_sdk
from tests.dify.parts import CALLS, FORECAST, FORECAST_TEXT, THOUGHT, THOUGHT_AND_CALL, WEATHER

pytestmark = [needs_sdk, pytest.mark.slow]

TOOLS: list[dict[str, Any]] = [
    {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "array"}}},
    },
    {"name": "get_time", "description": "Get the current time", "parameters": {"type": "object", "properties": {}}},
]
FUNCTION_CALL = LLM | {"function_calling_type": "function_call"}
CALLED = [("get_weather", json.loads(WEATHER)), ("get_time", {})]
BOTH_WAYS = pytest.mark.parametrize("stream", [True, False])


def called(answer: dict[str, Any]) -> list[tuple[str, Any]]:
    functions = [call["function"] for call in answer["tool_calls"]]
    return [(function["name"], json.loads(function["arguments"])) for function in functions]


@BOTH_WAYS
def test_several_calls_and_the_answer_to_their_results(judge: Judge, stream: bool) -> None:
    question = {"role": "user", "content": f"How is the weather? {CALLS}"}
    answer = judge.told("chat", "actor", messages=[question], tools=TOOLS, stream=stream)
    assert called(answer) == CALLED
    assert (answer["text"].strip(), answer["guesses"]) == ("Let me look.", 0)
    assert answer["finish_reason"] == ("tool_calls" if stream else None)
    ids = [call["id"] for call in answer["tool_calls"]]
    assert len(set(ids)) == 2 and all(ids)
    results = [
        {"role": "tool", "content": f"done {FORECAST}", "tool_call_id": identity, "name": "get_weather"}
        for identity in ids
    ]
    history = [question, {"role": "assistant", "content": "", "tool_calls": answer["tool_calls"]}, *results]
    answer = judge.told("chat", "actor", messages=history, tools=TOOLS, stream=stream)
    assert (answer["text"], answer["tool_calls"]) == (FORECAST_TEXT, [])


@BOTH_WAYS
def test_a_legacy_function_call_and_the_answer_to_its_result(judge: Judge, stream: bool) -> None:
    question = {"role": "user", "content": f"How is the weather? {CALLS}"}
    answer = judge.told("chat", "actor", FUNCTION_CALL, messages=[question], tools=TOOLS, stream=stream)
    assert called(answer)[0] == CALLED[0]
    assert answer["finish_reason"] == ("function_call" if stream else None)
    history = [
        question,
        {"role": "assistant", "content": "", "tool_calls": answer["tool_calls"][:1]},
        {"role": "tool", "content": f"done {FORECAST}", "tool_call_id": "get_weather"},
    ]
    answer = judge.told("chat", "actor", FUNCTION_CALL, messages=history, tools=TOOLS, stream=stream)
    assert (answer["text"], answer["tool_calls"]) == (FORECAST_TEXT, [])


@BOTH_WAYS
def test_the_demo_model_calls_and_reads_the_result(judge: Judge, stream: bool) -> None:
    question = {"role": "user", "content": "What time is it?"}
    answer = judge.told("chat", "demo", messages=[question], tools=TOOLS[1:], stream=stream)
    assert called(answer) == [("get_time", {})]
    identity = answer["tool_calls"][0]["id"]
    history = [
        question,
        {"role": "assistant", "content": "", "tool_calls": answer["tool_calls"]},
        {"role": "tool", "content": '{"time": "12:30"}', "tool_call_id": identity},
    ]
    assert "12:30" in judge.told("chat", "demo", messages=history, tools=TOOLS[1:], stream=stream)["text"]


@BOTH_WAYS
@pytest.mark.parametrize("mode", ["strict", "extended"])
@pytest.mark.parametrize("support", ["supported", "only_thinking_supported"])
def test_a_thought_is_shown_apart_from_the_answer(judge: Judge, support: str, mode: str, stream: bool) -> None:
    form = LLM | {"agent_thought_support": support, "compatibility_mode": mode}
    answer = judge.chat("actor", f"Hello {THOUGHT}", form, parameters={"reasoning_effort": "low"}, stream=stream)
    thought, closed, said = answer["text"].partition("</think>")
    assert (thought.strip(), closed) == ("<think>\nThey greet, so I greet.", "</think>")
    assert said.strip() == "Good day to you."
    assert answer["guesses"] == 0


@BOTH_WAYS
@pytest.mark.parametrize("mode", ["strict", "extended"])
def test_a_thought_that_is_not_wanted_does_not_show(judge: Judge, mode: str, stream: bool) -> None:
    form = LLM | {"agent_thought_support": "not_supported", "compatibility_mode": mode}
    answer = judge.chat("actor", f"Hello {THOUGHT}", form, stream=stream)
    assert answer["text"].strip() == "Good day to you."


@BOTH_WAYS
def test_a_thought_before_a_call(judge: Judge, stream: bool) -> None:
    answer = judge.chat("actor", f"Hello {THOUGHT_AND_CALL}", tools=TOOLS, stream=stream)
    assert called(answer) == [("get_time", {"zone": "UTC"})]
    assert answer["text"].replace("</think>", "").strip() == "<think>\nThis needs a clock."
    assert answer["text"].count("</think>") == 1


@BOTH_WAYS
def test_a_call_where_no_tool_was_offered_is_text(judge: Judge, stream: bool) -> None:
    form = LLM | {"function_calling_type": "no_call"}
    answer = judge.chat("actor", f"How is the weather? {CALLS}", form, stream=stream)
    assert answer["tool_calls"] == []
    assert "Let me look." in answer["text"]
