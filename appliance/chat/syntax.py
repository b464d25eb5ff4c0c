"""How each format writes calls: the markers that begin one, and who reads on from there."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final, Literal

from msgspec import Struct

from appliance.chat.blocks import (
    Block,
    JsonBlock,
    MarkedBlock,
    PythonBlock,
    TagBlock,
    dsml_calls,
    function_calls,
    gemma_calls,
    invoke_calls,
)
from appliance.types import ToolFormat

Verdict = Literal["yes", "no", "maybe"]
# So much of an answer's beginning decides whether it is a call that has no marker.
BARE_CHARS_MAX: Final = 128


class Syntax(Struct, frozen=True, kw_only=True):
    """begins: what opens the block that begins with each marker. fillers: what may stand after a call, and means
    nothing. bare: whether an answer that begins so is a call without a marker, which then `bare_block` reads. tokens:
    further markers inside of calls: where a vocabulary has them as control tokens, they must come out as text.
    """

    begins: Mapping[str, Callable[[str], Block]] = {}
    fillers: tuple[str, ...] = ()
    bare: Callable[[str], Verdict] | None = None
    bare_block: Callable[[str], Block] | None = None
    tokens: tuple[str, ...] = ()


def _json(pattern: str) -> Callable[[str], Block]:
    head = re.compile(pattern)
    return lambda marker: JsonBlock(marker, head)


def _marked(end: str, parse: Callable[..., object]) -> Callable[[str], Block]:
    return lambda marker: MarkedBlock(end, parse)  # type: ignore[arg-type]


def _bare_json(text: str) -> Verdict:
    """Is it `{"name": …`, or `[{"name": …`, maybe in a fence?"""
    return _begins(re.sub(r"\s+", "", text[:BARE_CHARS_MAX]), _BARE_JSON, whole=len(text) >= BARE_CHARS_MAX)


def _begins(text: str, beginnings: tuple[str, ...], *, whole: bool) -> Verdict:
    if text.startswith(beginnings):
        return "yes"
    return "maybe" if not whole and any(beginning.startswith(text) for beginning in beginnings) else "no"


def _bare_list(text: str) -> Verdict:
    """Is it `[f(`?"""
    head = text[:BARE_CHARS_MAX]
    if _PYTHON_CALL.match(head):
        return "yes"
    return "maybe" if len(text) < BARE_CHARS_MAX and _PYTHON_MAYBE.fullmatch(head) else "no"


_KEYS: Final = ('{"name":"', '{"type":"function"', '{"function":', '{"tool_call":', '{"tool_name":')
_BARE_JSON: Final = tuple(
    opening + key for opening in ("", "```json", "```") for key in (*_KEYS, *("[" + key for key in _KEYS))
)
_PYTHON_CALL: Final = re.compile(r"\s*\[\s*[A-Za-z_][\w.]*\(")
_PYTHON_MAYBE: Final = re.compile(r"\s*(?:\[\s*(?:[A-Za-z_][\w.]*)?)?")

_bare_value: Final = _json(r"(?:```(?:json)?\s*)?")
_tag: Final[Mapping[str, Callable[[str], Block]]] = {"<tool_call>": TagBlock}
_FUNCTION_END: Final = "</function>"
_DEEPSEEK: Final = _json(
    r"(?:<｜tool▁calls▁begin｜>\s*)?<｜tool▁call▁begin｜>\s*(?:function<｜tool▁sep｜>)?(?P<name>[\w.\-]+)"
    r"(?:<｜tool▁sep｜>)?\s*(?:```json\s*)?"
)
_KIMI: Final = _json(
    r"(?:<\|tool_calls_section_begin\|>\s*)?<\|tool_call_begin\|>\s*(?:functions\.)?(?P<name>[\w.\-]+)(?::\d+)?\s*"
    r"<\|tool_call_argument_begin\|>\s*"
)

SYNTAXES: Final[Mapping[ToolFormat, Syntax]] = {
    "none": Syntax(),
    "harmony": Syntax(),
    "hermes": Syntax(begins=_tag, fillers=("</tool_call>",)),
    "generic": Syntax(begins=_tag, fillers=("</tool_call>", "```"), bare=_bare_json, bare_block=_bare_value),
    "qwen3_coder": Syntax(
        begins={
            **_tag,
            "<seed:tool_call>": _marked(_FUNCTION_END, function_calls),
            "<function=": _marked(_FUNCTION_END, function_calls),
        },
        fillers=("</tool_call>", "</seed:tool_call>"),
    ),
    "glm": Syntax(
        begins=_tag,
        fillers=("</tool_call>",),
        tokens=("<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"),
    ),
    "llama3": Syntax(
        begins={
            "<|python_tag|>": _json(r"<\|python_tag\|>\s*"),
            "<function=": _json(r"<function=(?P<name>[\w.\-]+)>\s*"),
        },
        fillers=(_FUNCTION_END, "```", ";", ","),
        bare=_bare_json,
        bare_block=_bare_value,
    ),
    "pythonic": Syntax(
        begins={"<|tool_call_start|>": PythonBlock, "<|python_start|>": PythonBlock},
        fillers=("<|tool_call_end|>", "<|python_end|>"),
        bare=_bare_list,
        bare_block=PythonBlock,
    ),
    "mistral": Syntax(
        begins={
            "[TOOL_CALLS]": _json(
                r"\[TOOL_CALLS\]\s*(?:(?P<name>[\w.\-]+)\s*(?:\[CALL_ID\]\s*\w+\s*)?(?:\[ARGS\]\s*)?)?"
            )
        },
        tokens=("[ARGS]", "[CALL_ID]"),
    ),
    "deepseek": Syntax(
        begins={"<｜tool▁calls▁begin｜>": _DEEPSEEK, "<｜tool▁call▁begin｜>": _DEEPSEEK},
        fillers=("```", "<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>"),
        tokens=("<｜tool▁sep｜>",),
    ),
    "deepseek_dsml": Syntax(
        begins={
            f"<｜DSML｜{name}>": _marked(f"</｜DSML｜{name}>", dsml_calls) for name in ("function_calls", "tool_calls")
        },
        tokens=("｜DSML｜",),
    ),
    "kimi": Syntax(
        begins={"<|tool_calls_section_begin|>": _KIMI, "<|tool_call_begin|>": _KIMI},
        fillers=("<|tool_call_end|>", "<|tool_calls_section_end|>"),
        tokens=("<|tool_call_argument_begin|>",),
    ),
    "minimax": Syntax(
        begins={"<minimax:tool_call>": _marked("</minimax:tool_call>", invoke_calls)}, tokens=("</minimax:tool_call>",)
    ),
    "gemma": Syntax(begins={"<|tool_call>": _marked("<tool_call|>", gemma_calls)}, tokens=('<|"|>', "<tool_call|>")),
    "json_list": Syntax(
        begins={
            marker: _json(rf"{re.escape(marker)}\s*")
            for marker in (
                "<TOOLCALL>",
                "<tool_calls>",
                "<|tool_call|>",
                "<|tools_prefix|>",
                "<|START_ACTION|>",
                "functools",
            )
        },
        fillers=("</TOOLCALL>", "</tool_calls>", "<|tools_suffix|>", "<|END_ACTION|>", "<|/tool_call|>"),
    ),
}


def markers_of(syntax: Syntax) -> frozenset[str]:
    """All that means something between the text of calls."""
    return frozenset({*syntax.begins, *syntax.fillers, *syntax.tokens} - {"```", ";", ","})
