"""What a Responses request asks, in the words of a chat request. Pure, but for the ids that it is given.

The engine's path is the chat's: here is only what is named or nested otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, cast, get_args

import msgspec
from msgspec import Raw, Struct, defstruct, structs

from appliance.api.body import decode
from appliance.api.chat import PARTS_MAX, chat_decoder
from appliance.api.field_names import FieldNames
from appliance.api.openai_schema import ChatCompletionRequest, with_sampling
from appliance.api.request_fields import free_form
from appliance.api.responses_schema import (
    FunctionCallItem,
    FunctionOutputItem,
    InputText,
    Item,
    ItemIn,
    MessageItem,
    OutputText,
    PartIn,
    ReasoningItem,
    ReasoningText,
    ResponsesRequest,
)
from appliance.errors import RequestError

NAMES: Final = FieldNames(
    {
        "response_format.json_schema": "text.format",
        "response_format": "text.format",
        "tool_choice.allowed_tools": "tool_choice",
        "messages": "input",
    }
)
LOGPROBS_INCLUDED: Final = "message.output_text.logprobs"
Role = Literal["user", "assistant", "system", "developer"]
Ids = Callable[[str], str]

_TEXT_PARTS: Final = frozenset({"input_text", "output_text", "text", "reasoning_text", "summary_text", "refusal"})
# What a chat says in fields of these names, a Responses request says elsewhere, or not at all.
_NOT_PASSED: Final = frozenset(
    {
        *("messages", "stream_options", "max_tokens", "max_completion_tokens", "n", "functions", "function_call"),
        *("response_format", "logprobs", "reasoning_effort"),
    }
)
_PASSED: Final = tuple(
    name
    for name in with_sampling(ChatCompletionRequest).__struct_fields__
    if name not in _NOT_PASSED and name not in ResponsesRequest.__struct_fields__
)
_passed: Final[msgspec.json.Decoder[Struct]] = msgspec.json.Decoder(
    defstruct("Passed", [(name, Raw, Raw()) for name in _PASSED], frozen=True)
)
# All that a body may say; it is read in two goes.
RESPONSES_BODY: Final = defstruct(
    ResponsesRequest.__name__,
    [
        (item.name, item.type, None)
        for item in structs.fields(with_sampling(ChatCompletionRequest))
        if item.name in _PASSED
    ],
    bases=(ResponsesRequest,),
    frozen=True,
    kw_only=True,
)
_tools: Final = msgspec.json.Decoder(list[dict[str, Any]])
_format: Final = msgspec.json.Decoder(dict[str, Any])


class Asks(Struct, frozen=True, kw_only=True):
    """What is asked, checked. tools, format, tool_choice: as the client wrote them, for the answer to repeat."""

    chat: ChatCompletionRequest
    items: tuple[Item, ...]
    tools: tuple[dict[str, Any], ...]
    tool_choice: str | dict[str, Any]
    format: dict[str, Any]


def asks(raw: bytes, body: ResponsesRequest, before: Sequence[Item], new_id: Ids) -> Asks:
    """before: the conversation that it goes on with. new_id: an id that begins with a prefix. Raises RequestError."""
    _refuse(body)
    items = (*before, *items_of(body.input, new_id))
    if not items:
        raise RequestError("invalid_request", "input: missing; send a text or a list of items", param="input")
    tools = free_form("tools", body.tools, _tools) or []
    answer_format = free_form("text.format", body.text.format if body.text else Raw(), _format) or {"type": "text"}
    tool_choice = _tool_choice(body.tool_choice)
    named = _chat_choice(tool_choice)
    fields: dict[str, object] = {
        **_passed_on(raw),
        "model": body.model,
        "messages": turns(body.instructions, items),
        "max_completion_tokens": body.max_output_tokens,
        "tools": [_chat_tool(index, tool) for index, tool in enumerate(tools)],
        "tool_choice": named if tools or named == "required" or isinstance(named, dict) else None,
        "parallel_tool_calls": body.parallel_tool_calls,
        "response_format": _response_format(answer_format),
        "reasoning_effort": body.reasoning.effort if body.reasoning else None,
        "logprobs": body.top_logprobs is not None or LOGPROBS_INCLUDED in (body.include or ()),
        "top_logprobs": body.top_logprobs,
        "user": body.user or body.safety_identifier,
    }
    said = {name: value for name, value in fields.items() if value is not None}
    chat = decode(msgspec.json.encode(said), chat_decoder)
    return Asks(chat=chat, items=items, tools=tuple(tools), tool_choice=tool_choice, format=answer_format)


# ── input ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def items_of(asked: str | list[ItemIn] | None, new_id: Ids) -> list[Item]:
    """The input as items. Raises RequestError for those that are not for a model of text."""
    if isinstance(asked, str):
        return [MessageItem(id=new_id("msg"), role="user", content=(InputText(asked),))]
    entries = asked or []
    if sum(len(part) for item in entries for part in (item.content, item.output) if isinstance(part, list)) > PARTS_MAX:
        raise RequestError("invalid_request", f"input: more than {PARTS_MAX} content parts; send fewer", param="input")
    return [_item(f"input[{index}]", item, new_id) for index, item in enumerate(entries)]


def _item(place: str, item: ItemIn, new_id: Ids) -> Item:
    match item.type:
        case "message" | None if item.role is not None:
            return _message(place, item, new_id)
        case "function_call":
            return FunctionCallItem(
                id=item.id or new_id("fc"),
                call_id=_needed(place, "call_id", item.call_id),
                name=_needed(place, "name", item.name),
                arguments=item.arguments or "{}",
            )
        case "function_call_output":
            if item.output is None:
                raise _missing(place, "output")
            return FunctionOutputItem(
                id=item.id or new_id("fco"),
                call_id=_needed(place, "call_id", item.call_id),
                output="\n".join(_texts(f"{place}.output", item.output)),
            )
        case "reasoning":
            thought = tuple(ReasoningText(text) for text in _texts(f"{place}.content", item.content or []))
            return ReasoningItem(id=item.id or new_id("rs"), content=thought)
        case "message" | None:
            raise _missing(place, "role")
        case "item_reference":
            message = f"{place}: send the item itself, or previous_response_id"
            raise RequestError("unsupported_parameter", message, param=place)
    message = (
        f"{place}: items of type {item.type[:64]!r} are not supported; "
        "send message, function_call, function_call_output or reasoning"
    )
    raise RequestError("unsupported_parameter", message, param=place)


def _message(place: str, item: ItemIn, new_id: Ids) -> MessageItem:
    if item.role not in get_args(Role):
        message = f"{place}.role: expected user, assistant, system or developer"
        raise RequestError("invalid_request", message, param=f"{place}.role")
    texts = _texts(f"{place}.content", item.content or [])
    content = tuple(OutputText(text) if item.role == "assistant" else InputText(text) for text in texts)
    return MessageItem(id=item.id or new_id("msg"), role=cast(Role, item.role), content=content)


def _texts(place: str, content: str | list[PartIn]) -> list[str]:
    if isinstance(content, str):
        return [content]
    texts = []
    for index, part in enumerate(content):
        text = part.refusal if part.type == "refusal" else part.text
        if part.type not in _TEXT_PARTS or text is None:
            where = f"{place}[{index}]"
            raise RequestError(
                "invalid_request", f"{where}: only text can be sent, not {part.type[:64]!r}", param=where
            )
        texts.append(text)
    return texts


def _needed(place: str, field: str, value: str | None) -> str:
    if value is None:
        raise _missing(place, field)
    return value


def _missing(place: str, field: str) -> RequestError:
    return RequestError("invalid_request", f"{place}.{field}: missing", param=f"{place}.{field}")


def turns(instructions: str | None, items: Sequence[Item]) -> list[dict[str, Any]]:
    """The messages of a chat: what an assistant thought, said and called in one go is one turn of it."""
    out: list[dict[str, Any]] = [] if instructions is None else [{"role": "system", "content": instructions}]
    turn: dict[str, Any] = {}
    for item in items:
        if isinstance(item, FunctionOutputItem) or (isinstance(item, MessageItem) and item.role != "assistant"):
            _end(turn, out)
            turn = {}
            out.append(
                {"role": "tool", "tool_call_id": item.call_id, "content": item.output}
                if isinstance(item, FunctionOutputItem)
                else {"role": item.role, "content": _joined(item.content)}
            )
            continue
        if turn.keys() & _ENDS_BEFORE[type(item)]:
            _end(turn, out)
            turn = {}
        match item:
            case ReasoningItem():
                turn["reasoning_content"] = _joined(item.content)
            case MessageItem():
                turn["content"] = _joined(item.content)
            case FunctionCallItem():
                function = {"name": item.name, "arguments": item.arguments}
                turn.setdefault("tool_calls", []).append({"id": item.call_id, "type": "function", "function": function})
    _end(turn, out)
    return out


# What an assistant's turn may not have yet for an item to belong to it.
_ENDS_BEFORE: Final[dict[type, set[str]]] = {
    ReasoningItem: {"reasoning_content", "content", "tool_calls"},
    MessageItem: {"content", "tool_calls"},
    FunctionCallItem: set(),
}


def _end(turn: dict[str, Any], out: list[dict[str, Any]]) -> None:
    """A thought that led to nothing is left out."""
    if "content" in turn or "tool_calls" in turn:
        out.append({"role": "assistant", **turn})


def _joined(parts: Sequence[InputText | OutputText | ReasoningText]) -> str:
    return "\n".join(part.text for part in parts)


# ── fields ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _refuse(body: ResponsesRequest) -> None:
    """What would change the answer, or what becomes of it, and is not here."""
    for name, asked, hint in (
        ("background", body.background, "every response is made while the client waits; stream it"),
        ("conversation", _is_said(body.conversation), "send the items, or previous_response_id"),
        ("prompt", _is_said(body.prompt), "there are no stored prompt templates; send instructions and input"),
        ("moderation", _is_said(body.moderation), "no moderation model runs here"),
    ):
        if asked:
            raise RequestError("unsupported_parameter", f"{name}: this version does not support it; {hint}", param=name)


def _is_said(value: Raw) -> bool:
    return bytes(value) not in (b"", b"null")


def _passed_on(raw: bytes) -> dict[str, Raw]:
    passed = decode(raw, _passed)
    return {name: value for name in _PASSED if _is_said(value := getattr(passed, name))}


def _chat_tool(index: int, tool: dict[str, Any]) -> dict[str, Any]:
    place = f"tools[{index}]"
    if (kind := tool.get("type")) != "function":
        message = f"{place}: only tools of type 'function' are supported, not {str(kind)[:64]!r}; the client runs them"
        raise RequestError("unsupported_parameter", message, param=place)
    if not isinstance(tool.get("name"), str):
        raise _missing(place, "name")
    known = {name: tool[name] for name in ("name", "description", "parameters", "strict") if tool.get(name) is not None}
    return {"type": "function", "function": known}


def _tool_choice(asked: str | dict[str, Any] | None) -> str | dict[str, Any]:
    if asked is None:
        return "auto"
    if isinstance(asked, str) and asked in ("none", "auto", "required"):
        return asked
    if isinstance(asked, dict) and asked.get("type") == "function" and isinstance(name := asked.get("name"), str):
        return {"type": "function", "name": name}
    if isinstance(asked, dict) and asked.get("type") == "allowed_tools":
        return {"type": "allowed_tools", "mode": asked.get("mode"), "tools": asked.get("tools")}
    message = "tool_choice: expected none, auto, required, {type: function, name} or {type: allowed_tools, mode, tools}"
    raise RequestError("invalid_request", message, param="tool_choice")


def _chat_choice(choice: str | dict[str, Any]) -> str | dict[str, Any]:
    """A chat nests what is flat here."""
    match choice:
        case {"type": "function"}:
            return {"type": "function", "function": choice}
        case {"type": "allowed_tools", "mode": mode, "tools": tools}:
            return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}
    return choice


def _response_format(asked: dict[str, Any]) -> dict[str, Any] | None:
    match asked.get("type"):
        case "text":
            return None
        case "json_schema":
            return {"type": "json_schema", "json_schema": {key: asked[key] for key in asked if key != "type"}}
        case "json_object":
            return {"type": "json_object"}
    message = "text.format: expected a type of text, json_object or json_schema"
    raise RequestError("invalid_request", message, param="text.format")
