"""Which format a model's answers have, by its chat template."""

from __future__ import annotations

from typing import Final

from appliance.chat.harmony import HARMONY_MARKERS
from appliance.chat.reasoning import THOUGHTS
from appliance.chat.syntax import SYNTAXES, markers_of
from appliance.types import AnswerFormat, ReasoningFormat, ToolFormat

# What only a template of that format contains; the first that fits. All of the texts of an entry must be there.
_TOOLS: Final[tuple[tuple[tuple[str, ...], ToolFormat], ...]] = (
    (("<|channel|>", "<|message|>"), "harmony"),
    (("<|tool_call>", "<tool_call|>"), "gemma"),
    (("<｜tool▁call▁begin｜>",), "deepseek"),
    (("｜DSML｜",), "deepseek_dsml"),
    (("<|tool_call_argument_begin|>",), "kimi"),
    (("<minimax:tool_call>",), "minimax"),
    (("<arg_key>",), "glm"),
    (("<function=", "<parameter="), "qwen3_coder"),
    (("[TOOL_CALLS]",), "mistral"),
    (("<|tool_call_start|>",), "pythonic"),
    (("List of tools: <|tool_list_start|>",), "pythonic"),
    (("List of tools: [",), "pythonic"),
    (("[func_name1(",), "pythonic"),
    (("<TOOLCALL>",), "json_list"),
    (("<|tools_prefix|>",), "json_list"),
    (("<|START_ACTION|>",), "json_list"),
    (("functools",), "json_list"),
    (("<tool_calls>",), "json_list"),
    (("<|tool_call|>",), "json_list"),
    (("<tool_call>",), "hermes"),
    (("<|python_tag|>",), "llama3"),
    (('{"name": function name, "parameters":',), "llama3"),
    (("<function=",), "llama3"),
)
_REASONING: Final[tuple[tuple[str, ReasoningFormat], ...]] = (
    ("<|channel|>", "harmony"),
    ("<|channel>thought", "gemma"),
    ("[THINK]", "mistral"),
    ("<seed:think>", "seed"),
    ("<|START_THINKING|>", "command_r"),
    ("<|inner_prefix|>", "apertus"),
    ("<think>", "think"),
    ("</think>", "think"),
    # SmolLM3's and Nemotron's switches.
    ("/no_think", "think"),
)


def tool_format_of(template: str) -> ToolFormat:
    """`generic` where the template does not say how calls are written."""
    return next((name for texts, name in _TOOLS if all(text in template for text in texts)), "generic")


def reasoning_format_of(template: str) -> ReasoningFormat:
    """`think` where the template does not say: many models are trained to use it and do not mention it."""
    return next((name for text, name in _REASONING if text in template), "think")


def opens_reasoning(prompt: str, reasoning: ReasoningFormat) -> bool:
    """Whether the answer to `prompt` begins inside of what the model thinks."""
    return reasoning in THOUGHTS and prompt[-64:].rstrip().endswith(THOUGHTS[reasoning][0])


def closing_text(reasoning: ReasoningFormat) -> str:
    """What ends a thought, and leads on to the answer; empty where there is none."""
    if reasoning == "harmony":
        return "<|end|><|start|>assistant<|channel|>final<|message|>"
    return f"\n{THOUGHTS[reasoning][1]}\n\n" if reasoning in THOUGHTS else ""


def markers_in(answer: AnswerFormat, *, with_tools: bool) -> frozenset[str]:
    """What must come out as text, also where a vocabulary has it as control tokens, for the answer to be read."""
    if "harmony" in (answer.tools, answer.reasoning):
        return frozenset(HARMONY_MARKERS)
    calls = markers_of(SYNTAXES[answer.tools]) if with_tools else frozenset()
    return calls | frozenset(THOUGHTS.get(answer.reasoning, ()))
