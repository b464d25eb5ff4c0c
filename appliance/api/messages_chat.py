"""A request of Anthropic's Messages API as the chat it asks for. Pure.

Everything behind it, from the template to the sampler, is that of /v1/chat/completions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw

from appliance.api.anthropic_schema import BlockIn, MessagesFields, MessagesRequest, ToolChoiceIn, ToolIn, TurnIn
from appliance.api.field_names import FieldNames
from appliance.api.openai_schema import (
    ChatCompletionRequest,
    ContentPart,
    FunctionIn,
    MessageIn,
    ResponseFormat,
    Thinking,
    ToolCallIn,
    with_sampling,
)
from appliance.errors import RequestError

_Chat: Final = with_sampling(ChatCompletionRequest)
# Read whole: what is passed on as it is must be JSON to its end.
_object: Final = msgspec.json.Decoder(dict[str, Any])
_CHOICES: Final = {"auto": "auto", "any": "required", "none": "none"}
_FORMAT: Final = "output_config.format"
NAMES: Final = FieldNames({"response_format.json_schema": _FORMAT, "response_format": _FORMAT})


def chat_of(body: MessagesRequest) -> ChatCompletionRequest:
    """Raises RequestError for what cannot be said in a chat."""
    fields: dict[str, Any] = {
        "max_tokens": body.max_tokens,
        "stream": body.stream,
        "stop": body.stop_sequences,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "top_k": body.top_k,
        "seed": body.seed,
        "user": user_of(body),
        "priority": body.priority,
        "deadline_seconds": body.deadline_seconds,
        "keep_alive": body.keep_alive,
        "cache_salt": body.cache_salt,
    }
    return _chat(body, fields)


def prompt_chat_of(body: MessagesFields) -> ChatCompletionRequest:
    """What makes the prompt alone."""
    return _chat(body, {})


def user_of(body: MessagesRequest) -> str | None:
    """Whom the client asks for."""
    return None if body.metadata is None else body.metadata.user_id


def _chat(body: MessagesFields, fields: dict[str, Any]) -> ChatCompletionRequest:
    config, choice, thinking = body.output_config, body.tool_choice, body.thinking
    return _Chat(
        model=body.model,
        messages=_turns(body),
        tools=Raw(msgspec.json.encode([_tool(index, tool) for index, tool in enumerate(body.tools or ())])),
        tool_choice=_tool_choice(choice),
        parallel_tool_calls=False if choice is not None and choice.disable_parallel_tool_use else None,
        thinking=None if thinking is None else Thinking(thinking.type, thinking.budget_tokens),
        reasoning_effort=None if config is None else config.effort,
        response_format=_format(body),
        **fields,
    )


def _format(body: MessagesFields) -> ResponseFormat | None:
    newer = None if body.output_config is None else body.output_config.format
    asked = newer or body.output_format
    if asked is None:
        return None
    if newer is not None and body.output_format is not None:
        message = "output_format: the older name of output_config.format; send one of them"
        raise RequestError("invalid_request", message, param="output_format")
    schema = _json_object(f"{_FORMAT}.schema", asked.schema)
    # Wrapped, so that it is the schema whatever members it has.
    return ResponseFormat("json_schema", json_schema=Raw(b'{"name":"answer","schema":%b}' % bytes(schema)))


def _tool(index: int, tool: ToolIn) -> dict[str, Any]:
    place = f"tools[{index}]"
    if tool.type not in (None, "custom"):
        message = f"{place}: {tool.type[:64]!r} is a tool of Anthropic's server; send tools with name and input_schema"
        raise RequestError("unsupported_parameter", message, param=place)
    if not tool.name:
        raise RequestError("invalid_request", f"{place}.name: needed", param=f"{place}.name")
    function: dict[str, Any] = {
        "name": tool.name,
        "description": tool.description or "",
        "parameters": _json_object(f"{place}.input_schema", tool.input_schema),
    }
    if tool.strict:
        function["strict"] = True
    return {"type": "function", "function": function}


def _tool_choice(choice: ToolChoiceIn | None) -> str | dict[str, Any] | None:
    if choice is None:
        return None
    if choice.type != "tool":
        return _CHOICES[choice.type]
    if choice.name is None:
        raise RequestError("invalid_request", "tool_choice.name: needed with type tool", param="tool_choice.name")
    return {"type": "function", "function": {"name": choice.name}}


def _json_object(place: str, raw: Raw) -> Raw:
    try:
        _object.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RequestError("invalid_request", f"{place}: expected a JSON object", param=place) from None
    return raw


# ── turns ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _turns(body: MessagesFields) -> list[MessageIn]:
    """Neighbouring turns of one role are one, as Anthropic's clients expect."""
    if body.messages[-1].role == "assistant":
        raise RequestError(
            "unsupported_parameter",
            "messages: the last turn is the assistant's, and this server does not go on with one; end with a user turn",
            param="messages",
        )
    turns: list[MessageIn] = []
    if body.system:
        turns.append(MessageIn("system", _texts("system", body.system)))
    for index, turn in enumerate(body.messages):
        for message in _messages(f"messages[{index}].content", turn):
            turns[-1:] = _joined(turns[-1:], message)
    return turns


def _joined(last: Sequence[MessageIn], message: MessageIn) -> list[MessageIn]:
    if not last or last[0].role != message.role or message.role not in ("user", "assistant"):
        return [*last, message]
    before = last[0]
    return [
        MessageIn(
            message.role,
            [*_parts(before.content), *_parts(message.content)],
            tool_calls=[*(before.tool_calls or ()), *(message.tool_calls or ())] or None,
            reasoning_content="\n".join(filter(None, (before.reasoning_content, message.reasoning_content))) or None,
        )
    ]


def _parts(content: str | list[ContentPart] | None) -> list[ContentPart]:
    return content if isinstance(content, list) else [ContentPart("text", content)] if content else []


def _messages(place: str, turn: TurnIn) -> Iterable[MessageIn]:
    """The turns of a chat that one of Anthropic's is: results of tools are turns of their own there."""
    if isinstance(turn.content, str):
        return [MessageIn(turn.role, turn.content)]
    if turn.role == "assistant":
        return [_assistant(place, turn.content)]
    return _asked(place, turn)


def _asked(place: str, turn: TurnIn) -> Iterable[MessageIn]:
    texts: list[ContentPart] = []
    for number, block in enumerate(turn.content):
        assert isinstance(block, BlockIn), "a text has been dealt with"
        here = f"{place}[{number}]"
        if block.type == "tool_result" and turn.role == "user":
            if texts:
                yield MessageIn("user", texts)
                texts = []
            yield _result(here, block)
        else:
            texts.append(_text(here, block))
    if texts:
        yield MessageIn(turn.role, texts)


def _result(place: str, block: BlockIn) -> MessageIn:
    """Templates know no failed results, so the text says it."""
    if not block.tool_use_id:
        raise RequestError("invalid_request", f"{place}.tool_use_id: needed", param=f"{place}.tool_use_id")
    content = _parts(_texts(f"{place}.content", block.content or ""))
    if block.is_error:
        content = [ContentPart("text", "Error:"), *content]
    return MessageIn("tool", content, tool_call_id=block.tool_use_id)


def _assistant(place: str, blocks: Sequence[BlockIn]) -> MessageIn:
    texts: list[ContentPart] = []
    thoughts: list[str] = []
    calls: list[ToolCallIn] = []
    for number, block in enumerate(blocks):
        here = f"{place}[{number}]"
        match block.type:
            case "thinking":
                thoughts.append(block.thinking or "")
            case "redacted_thinking":
                # Encrypted for somebody else.
                pass
            case "tool_use":
                calls.append(_call(here, block))
            case _:
                texts.append(_text(here, block))
    return MessageIn("assistant", texts, tool_calls=calls or None, reasoning_content="\n".join(thoughts) or None)


def _call(place: str, block: BlockIn) -> ToolCallIn:
    if not block.name:
        raise RequestError("invalid_request", f"{place}.name: needed", param=f"{place}.name")
    arguments = bytes(_json_object(f"{place}.input", block.input)).decode()
    return ToolCallIn(FunctionIn(block.name, arguments), block.id)


def _texts(place: str, content: str | list[ContentPart]) -> str | list[ContentPart]:
    if isinstance(content, list):
        for number, part in enumerate(content):
            _text(f"{place}[{number}]", part)
    return content


def _text(place: str, block: BlockIn | ContentPart) -> ContentPart:
    if block.type != "text" or block.text is None:
        kind = "a text block without text" if block.type == "text" else repr(block.type[:64])
        raise RequestError("invalid_request", f"{place}: only text can be sent here, not {kind}", param=place)
    return ContentPart("text", block.text)
