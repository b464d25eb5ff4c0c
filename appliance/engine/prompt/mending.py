"""Conversations that a model's template cannot show as they are, told with what it can show. Pure.

Nothing is left out: tools become part of the system's text, a past call part of the assistant's, a result the user's,
in the words of the generic format (`<tool_call>`, `<tool_response>`); a misplaced system turn becomes the user's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from msgspec.structs import replace

from appliance.engine.prompt.abilities import Abilities
from appliance.types import ChatMessage, ChatPrompt, ToolCall, ToolFormat

_ID_CHARS: Final = 9
_CALL: Final = '<tool_call>\n{"name": NAME, "arguments": {ARGUMENTS}}\n</tool_call>'
# Formats whose templates show calls and no tools: their models are asked for what they were trained to write.
_TAUGHT: Final[dict[ToolFormat, str]] = {
    "deepseek": (
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>NAME<｜tool▁sep｜>{ARGUMENTS}<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
    )
}
_INTRODUCTION: Final = """You can call functions. Their signatures are in JSON, one a line:
{tools}

To call one, write nothing but this for each call, with its name and its arguments in JSON:
{call}
The results come in the next turn. Call functions only where you need them."""


def taught_format(tools: ToolFormat) -> ToolFormat:
    """In which format calls come where the template does not show tools, so that `mended` describes them."""
    return tools if tools in _TAUGHT else "generic"


def is_simple(prompt: ChatPrompt) -> bool:
    """Whether every template can be expected to show it: a system turn at most, then user and assistant in turns."""
    turns = prompt.messages[prompt.messages[0].role == "system" :] if prompt.messages else ()
    expected = ("user", "assistant")
    return not prompt.tools and all(
        turn.role == expected[index % 2] and not turn.tool_calls for index, turn in enumerate(turns)
    )


def with_names(messages: Sequence[ChatMessage]) -> tuple[ChatMessage, ...]:
    """Results of tools have the name of the tool that was called under their id."""
    names: dict[str | None, str] = {}
    out = []
    for message in messages:
        names.update({call.id: call.function.name for call in message.tool_calls if call.id is not None})
        if message.role == "tool" and message.name is None and message.tool_call_id in names:
            message = replace(message, name=names[message.tool_call_id])
        out.append(message)
    return tuple(out)


def mended(prompt: ChatPrompt, can: Abilities, tools: ToolFormat = "generic") -> ChatPrompt:
    """The same conversation for a template with these abilities. tools: how the model writes calls."""
    messages: Sequence[ChatMessage] = prompt.messages
    shown = prompt.tools
    if shown and not can.tools:
        messages, shown = _with_system(messages, _introduction(shown, tools)), ()
    if not can.parallel_calls and can.calls:
        messages = list(_one_call_a_turn(messages))
    if not can.spoken_calls:
        messages = list(_text_before_calls(messages))
    if not can.calls:
        messages = [_without_calls(message) for message in messages]
    messages = list(_with_results(messages, can))
    messages = [*messages[:1], *(message if can.later_system else _as_user(message) for message in messages[1:])]
    if not can.system and messages[0].role == "system":
        messages = [_as_user(messages[0]), *messages[1:]]
    if not can.assistant_first:
        messages = list(_begun_by_user(messages))
    if not can.repeats:
        messages = _in_turns(messages)
    if not can.long_ids:
        messages = [_with_short_ids(message) for message in messages]
    return replace(prompt, messages=tuple(messages), tools=shown)


def _introduction(tools: Sequence[dict[str, Any]], wanted: ToolFormat) -> str:
    signatures = "\n".join(json.dumps(tool.get("function", tool), ensure_ascii=False) for tool in tools)
    return _INTRODUCTION.format(tools=signatures, call=_TAUGHT.get(wanted, _CALL))


def _with_system(messages: Sequence[ChatMessage], text: str) -> list[ChatMessage]:
    if messages[0].role == "system":
        first = messages[0]
        return [replace(first, content=f"{first.content}\n\n{text}" if first.content else text), *messages[1:]]
    return [ChatMessage(role="system", content=text), *messages]


def _one_call_a_turn(messages: Sequence[ChatMessage]) -> Iterator[ChatMessage]:
    """Each call in a turn of its own, with its result behind it."""
    index = 0
    while index < len(messages):
        message = messages[index]
        index += 1
        if len(message.tool_calls) < 2:
            yield message
            continue
        results: list[ChatMessage] = []
        while index < len(messages) and messages[index].role == "tool":
            results.append(messages[index])
            index += 1
        for number, call in enumerate(message.tool_calls):
            yield replace(message, content=message.content if number == 0 else "", tool_calls=(call,))
            own = next((result for result in results if result.tool_call_id == call.id), None)
            if own is not None:
                results.remove(own)
                yield own
        yield from results


def _text_before_calls(messages: Sequence[ChatMessage]) -> Iterator[ChatMessage]:
    """What is said beside calls in a turn of its own."""
    for message in messages:
        if message.tool_calls and message.content:
            yield replace(message, tool_calls=(), reasoning_content=None)
            message = replace(message, content="")
        yield message


def _without_calls(message: ChatMessage) -> ChatMessage:
    if not message.tool_calls:
        return message
    calls = [_call_text(call) for call in message.tool_calls]
    return replace(message, content="\n".join([message.content, *calls] if message.content else calls), tool_calls=())


def _call_text(call: ToolCall) -> str:
    name = json.dumps(call.function.name, ensure_ascii=False)
    return _CALL.replace("NAME", name, 1).replace("{ARGUMENTS}", call.function.arguments, 1)


def _with_results(messages: Sequence[ChatMessage], can: Abilities) -> Iterator[ChatMessage]:
    called = False
    for message in messages:
        if message.role != "tool":
            called = bool(message.tool_calls)
            yield message
        elif can.results and (called or can.orphans):
            yield message
        else:
            name = f' name="{message.name}"' if message.name else ""
            yield ChatMessage(role="user", content=f"<tool_response{name}>\n{message.content}\n</tool_response>")


def _as_user(message: ChatMessage) -> ChatMessage:
    return ChatMessage(role="user", content=message.content) if message.role == "system" else message


def _begun_by_user(messages: Sequence[ChatMessage]) -> Iterator[ChatMessage]:
    begun = False
    for message in messages:
        if not begun and message.role == "assistant":
            yield ChatMessage(role="user")
        begun = begun or message.role != "system"
        yield message


def _in_turns(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """Neighbours of one role become one turn; results of tools stay what they are."""
    out: list[ChatMessage] = []
    for message in messages:
        last = out[-1] if out else None
        if last is None or last.role != message.role or message.role == "tool" or last.tool_calls:
            out.append(message)
        else:
            content = "\n\n".join(text for text in (last.content, message.content) if text)
            out[-1] = replace(last, content=content, tool_calls=message.tool_calls)
    return out


def _with_short_ids(message: ChatMessage) -> ChatMessage:
    calls = tuple(replace(call, id=_short(call.id or call.function.name)) for call in message.tool_calls)
    found = message.tool_call_id
    return replace(message, tool_calls=calls, tool_call_id=None if found is None else _short(found))


def _short(call_id: str) -> str:
    if len(call_id) == _ID_CHARS and call_id.isascii() and call_id.isalnum():
        return call_id
    return hashlib.sha256(call_id.encode(errors="replace")).hexdigest()[:_ID_CHARS]
