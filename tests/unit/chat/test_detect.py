"""Which format a template speaks of."""

from __future__ import annotations

from typing import get_args

import pytest

from appliance.chat import markers_in, opens_reasoning, reasoning_format_of, tool_format_of
from appliance.chat.reasoning import THOUGHTS
from appliance.chat.syntax import SYNTAXES
from appliance.types import AnswerFormat, ReasoningFormat, ToolFormat


@pytest.mark.parametrize(
    ("template", "tools"),
    [
        ("{{ messages }}", "generic"),
        ("return a json object within <tool_call></tool_call>", "hermes"),
        ("<tool_call>\n<function=example>\n<parameter=a>", "qwen3_coder"),
        ("<tool_call>{function-name}\n<arg_key>", "glm"),
        ('respond in the format {"name": function name, "parameters": dictionary', "llama3"),
        ("{{ '<|python_tag|>' }}", "llama3"),
        ("'[TOOL_CALLS]' + name + '[ARGS]'", "mistral"),
        ("<|channel|>commentary<|message|>", "harmony"),
        ("'<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>'", "deepseek"),
    ],
)
def test_tools(template: str, tools: ToolFormat) -> None:
    assert tool_format_of(template) == tools


@pytest.mark.parametrize(
    ("template", "reasoning"),
    [
        ("{{ messages }}", "think"),
        ("'[THINK]' + block", "mistral"),
        ("<seed:think>", "seed"),
        ("<|channel|>analysis", "harmony"),
        ("<|channel>thought\n", "gemma"),
    ],
)
def test_reasoning(template: str, reasoning: ReasoningFormat) -> None:
    assert reasoning_format_of(template) == reasoning


def test_where_a_prompt_leaves_the_model_thinking() -> None:
    assert opens_reasoning("<|im_start|>assistant\n<think>\n", "think")
    assert not opens_reasoning("<|im_start|>assistant\n<think>\n\n</think>\n\n", "think")
    assert not opens_reasoning("<|im_start|>assistant\n<think>\n", "none")
    assert not opens_reasoning("<|start|>assistant", "harmony")


def test_every_format_can_be_read() -> None:
    assert set(SYNTAXES) == set(get_args(ToolFormat))
    assert {*THOUGHTS, "none", "harmony"} == set(get_args(ReasoningFormat))


def test_markers() -> None:
    answer = AnswerFormat(tools="mistral", reasoning="think")
    assert markers_in(answer, with_tools=False) == {"<think>", "</think>"}
    assert markers_in(answer, with_tools=True) == {"<think>", "</think>", "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"}
    assert "<|message|>" in markers_in(AnswerFormat(tools="harmony"), with_tools=False)
