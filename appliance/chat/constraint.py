"""A grammar for answers that must be calls, in llguidance's Lark, and the format in which such an answer is to be read.

A format that is hard to force, because its arguments are no JSON, is forced into one that is read as well.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from appliance.types import ToolFormat


class ForcedCalls(Struct, frozen=True, kw_only=True):
    """grammar: Lark that begins at `start`. tools: how the answer is to be read. markers: those the grammar has."""

    grammar: str
    tools: ToolFormat
    markers: tuple[str, ...] = ()


class _Form(Struct, frozen=True):
    """before, after: of one call, NAME is its tool's. arguments: the name of that field, in a value that has the name
    too; None where the value is the arguments alone. begin, end: around all calls; between: two of them. many: whether
    an answer can have several.
    """

    before: str
    after: str = ""
    arguments: str | None = None
    begin: str = ""
    end: str = ""
    between: str = ""
    many: bool = True


_HERMES: Final = _Form("<tool_call>\n", "\n</tool_call>", "arguments", between="\n")
_FORMS: Final[Mapping[ToolFormat, _Form]] = {
    "hermes": _HERMES,
    "generic": _HERMES,
    "qwen3_coder": _HERMES,
    "glm": _HERMES,
    "llama3": _Form("", "", "parameters", between="; "),
    "mistral": _Form("", "", "arguments", "[TOOL_CALLS][", "]", ", "),
    "deepseek": _Form(
        "<｜tool▁call▁begin｜>NAME<｜tool▁sep｜>",
        "<｜tool▁call▁end｜>",
        begin="<｜tool▁calls▁begin｜>",
        end="<｜tool▁calls▁end｜>",
    ),
    "kimi": _Form(
        "<|tool_call_begin|>functions.NAME:0<|tool_call_argument_begin|>",
        "<|tool_call_end|>",
        begin="<|tool_calls_section_begin|>",
        end="<|tool_calls_section_end|>",
    ),
    "harmony": _Form("<|channel|>commentary to=functions.NAME <|constrain|>json<|message|>", many=False),
}
# What `tokens` of `forced_calls` may have.
MARKERS: Final = (
    "<tool_call>",
    "</tool_call>",
    "[TOOL_CALLS]",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁calls▁end｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁sep｜>",
    "<|tool_calls_section_begin|>",
    "<|tool_calls_section_end|>",
    "<|tool_call_begin|>",
    "<|tool_call_end|>",
    "<|tool_call_argument_begin|>",
    "<|channel|>",
    "<|constrain|>",
    "<|message|>",
)
_ANY_OBJECT: Final[dict[str, Any]] = {"type": "object"}


def forced_calls(
    wanted: ToolFormat,
    tools: Sequence[Mapping[str, Any]],
    *,
    only: Collection[str],
    parallel: bool,
    tokens: Mapping[str, int],
) -> ForcedCalls:
    """A grammar of one call or, where `parallel`, of one and more. only: of these tools alone; empty: of any.

    tokens: markers that the model's vocabulary has as one token; others are spelt. tools: functions, with names.
    """
    form, read = (_FORMS[wanted], wanted) if wanted in _FORMS else (_HERMES, "hermes")
    functions = [tool.get("function", tool) for tool in tools]
    functions = [function for function in functions if not only or function["name"] in only]
    assert functions, "somebody has looked whether there are any"
    repeat = f" ({_joined(_texts(form.between, tokens), 'call')})*" if parallel and form.many else ""
    rules = [f"start: {_joined(_texts(form.begin, tokens), 'call' + repeat, _texts(form.end, tokens))}"]
    rules.append("call: " + " | ".join(f"call{index}" for index in range(len(functions))))
    for index, function in enumerate(functions):
        before = _texts(form.before.replace("NAME", function["name"]), tokens)
        rules.append(f"call{index}: {_joined(before, f'value{index}', _texts(form.after, tokens))}")
        rules.append(f"value{index}: %json {json.dumps(_schema(function, form.arguments), ensure_ascii=False)}")
    used = tuple(marker for marker in MARKERS if marker in "".join((form.begin, form.before, form.after, form.end)))
    return ForcedCalls(grammar="\n".join(rules) + "\n", tools=read, markers=used)


def _schema(function: Mapping[str, Any], arguments: str | None) -> Mapping[str, Any]:
    own = function.get("parameters")
    schema: Mapping[str, Any] = own if isinstance(own, Mapping) else {}
    # Arguments are read as an object, whether or not a schema says so.
    schema = schema if "type" in schema or "$ref" in schema else {**_ANY_OBJECT, **schema}
    if arguments is None:
        return schema
    # A schema's references count from its own root.
    moved = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    inner = {key: value for key, value in schema.items() if key not in moved}
    properties = {"name": {"const": function["name"]}, arguments: inner}
    return {
        "type": "object",
        "properties": properties,
        "required": ["name", arguments],
        "additionalProperties": False,
        **moved,
    }


def _texts(text: str, tokens: Mapping[str, int]) -> str:
    """A text as Lark's terms: markers that are tokens by their number, the rest as strings."""
    terms: list[str] = []
    while text:
        starts = [(at, marker) for marker in MARKERS if marker in tokens and (at := text.find(marker)) >= 0]
        at, marker = min(starts, default=(len(text), ""))
        if at:
            terms.append(json.dumps(text[:at], ensure_ascii=False))
        if marker:
            terms.append(f"<[{tokens[marker]}]>")
        text = text[at + len(marker) :]
    return " ".join(terms)


def _joined(*terms: str) -> str:
    return " ".join(term for term in terms if term)
