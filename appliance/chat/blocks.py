"""Where a call ends that has begun, and what it says. One reader for each way in which models write calls."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final, Literal, Protocol

from appliance.chat.brackets import BracketScanner
from appliance.chat.literals import Called, gemma_call, python_calls
from appliance.chat.parts import Call
from appliance.chat.tools import Tools, json_text

# What stands between a call's marker and its arguments: a name, and markers of the format.
HEAD_CHARS_MAX: Final = 256
# A call that is longer is none: it would be held back for too long.
BLOCK_CHARS_MAX: Final = 1_000_000

Progress = Literal["open", "whole", "broken"]
Parse = Callable[[str, Tools], list[Call] | None]


class Block(Protocol):
    """A call, or several in one, on its way. `feed` until it is not open any more."""

    def feed(self, text: str, start: int) -> tuple[Progress, int]:
        """Takes text[start:]. Where it is whole or broken, the index after what belongs to it."""
        ...

    def calls(self, block: str, tools: Tools) -> list[Call] | None:
        """What a whole block says, its marker included; None where that is nothing that can be done."""
        ...


class JsonBlock:
    """A head, then one JSON value.

    head: what may stand before the value, the marker included. name: its group of that name makes the value the
    arguments of one call; without one the value says itself what is called.
    """

    def __init__(self, marker: str, head: re.Pattern[str]) -> None:
        self._head = marker
        self._pattern = head
        self._scanner: BracketScanner | None = None

    def feed(self, text: str, start: int) -> tuple[Progress, int]:
        """See Block."""
        if self._scanner is None:
            until = start + max(0, HEAD_CHARS_MAX - len(self._head))
            found = self._start(text, start, until)
            if found < 0:
                self._head += text[start:until]
                return ("open", -1) if len(self._head) < HEAD_CHARS_MAX else ("broken", len(text))
            self._head += text[start:found]
            if self._pattern.fullmatch(self._head) is None:
                return "broken", found
            self._scanner = BracketScanner()
            start = found
        end = self._scanner.feed(text, start)
        return ("open", -1) if end < 0 else ("whole", end)

    def _start(self, text: str, start: int, until: int) -> int:
        """Where the value begins. Markers have square brackets too; a list never stands behind a name."""
        for found in _JSON_START.finditer(text, start, until):
            if found[0] == "{":
                return found.start()
            head = self._pattern.fullmatch(self._head + text[start : found.start()])
            if head is not None and head.groupdict().get("name") is None:
                return found.start()
        return -1

    def calls(self, block: str, tools: Tools) -> list[Call] | None:
        """See Block."""
        head = self._pattern.fullmatch(self._head)
        assert head is not None
        value = block[len(self._head) :]
        name = head.groupdict().get("name")
        if name is None:
            return tools.calls_in(value)
        call = tools.call(name, value)
        return None if call is None else [call]


class MarkedBlock:
    """All up to an end marker, which belongs to it."""

    def __init__(self, end: str, parse: Parse) -> None:
        self._end = end
        self._parse = parse
        self._tail = ""

    def feed(self, text: str, start: int) -> tuple[Progress, int]:
        """See Block."""
        searched = self._tail + text[start:]
        at = searched.find(self._end)
        if at >= 0:
            return "whole", start + at + len(self._end) - len(self._tail)
        self._tail = searched[-(len(self._end) - 1) :]
        return "open", -1

    def calls(self, block: str, tools: Tools) -> list[Call] | None:
        """See Block."""
        return self._parse(block, tools)


class PythonBlock:
    """A list of calls as Python writes them, after its marker."""

    def __init__(self, marker: str) -> None:
        self._marker = marker
        self._scanner = BracketScanner(python=True)

    def feed(self, text: str, start: int) -> tuple[Progress, int]:
        """See Block."""
        end = self._scanner.feed(text, start)
        return ("open", -1) if end < 0 else ("whole", end)

    def calls(self, block: str, tools: Tools) -> list[Call] | None:
        """See Block."""
        return _known(python_calls(block[len(self._marker) :]), tools)


class TagBlock:
    """After `<tool_call>`, three families write three things: JSON, `<function=…>`, or a name and `<arg_key>`."""

    def __init__(self, marker: str) -> None:
        self._marker = marker
        self._head = marker
        self._block: Block | None = None

    def feed(self, text: str, start: int) -> tuple[Progress, int]:
        """See Block."""
        if self._block is None:
            known = len(self._head)
            self._head += text[start:]
            kind = _TAG_HEAD.match(self._head, len(self._marker), HEAD_CHARS_MAX)
            if kind is None or kind.lastgroup is None:
                broken = kind is None or len(self._head) >= HEAD_CHARS_MAX
                return ("broken", len(text)) if broken else ("open", -1)
            self._block = self._choose(kind.lastgroup)
            progress, end = self._block.feed(self._head, len(self._marker))
            return progress, end - known + start if progress != "open" else end
        return self._block.feed(text, start)

    def _choose(self, kind: str) -> Block:
        match kind:
            case "json":
                return JsonBlock(self._marker, _TAG_JSON)
            case "function":
                return MarkedBlock("</function>", function_calls)
            case _:
                return MarkedBlock("</tool_call>", key_value_call)

    def calls(self, block: str, tools: Tools) -> list[Call] | None:
        """See Block."""
        assert self._block is not None
        return self._block.calls(block, tools)


_JSON_START: Final = re.compile(r"[{\[]")
_TAG_JSON: Final = re.compile(r"<tool_call>\s*(?:```(?:json)?\s*)?")
# Without a group that matched it may still become one of them.
_TAG_HEAD: Final = re.compile(
    r"\s*(?:(?P<json>(?:```(?:json)?\s*)?[{\[])|(?P<function><function=)|(?P<name>[\w.\-]+\s*(?:\n|<arg_key>|</tool_call>))"
    r"|(?:`{1,3}|```j(?:son?)?\s*|<(?:f(?:u(?:n(?:c(?:t(?:i(?:o(?:n)?)?)?)?)?)?)?)?|[\w.\-]+\s*(?:<[a-z_/]*)?)?\Z)"
)
_GLM_NAME: Final = re.compile(r"<tool_call>\s*([\w.\-]+)")
_GEMMA: Final = re.compile(r"<\|tool_call>(.*)<tool_call\|>", re.DOTALL)


def function_calls(block: str, tools: Tools) -> list[Call] | None:
    """`<function=f><parameter=a>1</parameter></function>`: one line end around a value is not part of it."""
    for name, body in _elements(block, "<function=", "</function>"):
        pairs = [(key.strip(), _trimmed(value)) for key, value in _elements(body, "<parameter=", "</parameter>")]
        return _one(tools.call_by_texts(name.strip(), pairs))
    return None


def key_value_call(block: str, tools: Tools) -> list[Call] | None:
    """`<tool_call>f\\n<arg_key>a</arg_key>\\n<arg_value>1</arg_value></tool_call>`."""
    found = _GLM_NAME.match(block)
    if found is None:
        return None
    keys = [key.strip() for _, key in _elements(block, "<arg_key", "</arg_key>")]
    values = [value for _, value in _elements(block, "<arg_value", "</arg_value>")]
    return None if len(keys) != len(values) else _one(tools.call_by_texts(found[1], zip(keys, values, strict=True)))


def invoke_calls(block: str, tools: Tools) -> list[Call] | None:
    """`<invoke name="f"><parameter name="a">1</parameter></invoke>`, any number of them."""
    return _invoked(block, tools, "")


def dsml_calls(block: str, tools: Tools) -> list[Call] | None:
    """The same with DeepSeek's marker in every tag."""
    return _invoked(block, tools, "｜DSML｜")


def _invoked(block: str, tools: Tools, mark: str) -> list[Call] | None:
    calls = []
    for head, body in _elements(block, f"<{mark}invoke name=", f"</{mark}invoke>"):
        pairs = [
            (name.split('"')[1] if name.count('"') > 1 else name, _trimmed(value))
            for name, value in _elements(body, f"<{mark}parameter name=", f"</{mark}parameter>")
        ]
        call = tools.call_by_texts(head.strip().strip('"'), pairs)
        if call is None:
            return None
        calls.append(call)
    return calls or None


def _elements(text: str, opening: str, closing: str) -> Iterator[tuple[str, str]]:
    """What stands in each tag behind `opening`, and what between it and its `closing`."""
    at = 0
    while (start := text.find(opening, at)) >= 0:
        start += len(opening)
        inside = text.find(">", start)
        end = text.find(closing, inside + 1) if inside >= 0 else -1
        if end < 0:
            return
        yield text[start:inside], text[inside + 1 : end]
        at = end + len(closing)


def gemma_calls(block: str, tools: Tools) -> list[Call] | None:
    """`<|tool_call>call:f{a:1}<tool_call|>`."""
    found = _GEMMA.fullmatch(block)
    called = None if found is None else gemma_call(found[1].strip())
    return None if called is None else _known([called], tools)


def _known(called: list[Called] | None, tools: Tools) -> list[Call] | None:
    calls = [tools.call(name, json_text(arguments)) for name, arguments in called or ()]
    known = [call for call in calls if call is not None]
    return known if known and len(known) == len(calls) else None


def _one(call: Call | None) -> list[Call] | None:
    return None if call is None else [call]


def _trimmed(value: str) -> str:
    return value.removeprefix("\n").removesuffix("\n")
