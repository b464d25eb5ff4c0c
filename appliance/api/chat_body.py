"""A chat as the JSON that any server of OpenAI's API takes. Pure."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from appliance.api.chat import chat_prompt
from appliance.api.openai_schema import ChatCompletionRequest
from appliance.api.thinking import template_kwargs
from appliance.api.tool_choice import AskedTools
from appliance.types import ChatMessage

_NOTHING: Final = (b"", b"null")
_OF_TOOLS: Final = ("tool_choice", "parallel_tool_calls")
_OF_TEMPLATES: Final = ("enable_thinking", "thinking", "chat_template_kwargs")


def chat_body(chat: ChatCompletionRequest, tools: AskedTools) -> bytes:
    """What is not said is not there. tools: those of the chat. Raises RequestError for what cannot be sent."""
    body = _said(chat)
    body["messages"] = [_message(message) for message in chat_prompt(chat, tools).messages]
    body.pop("tools", None)
    if tools.tools:
        body["tools"] = list(tools.tools)
    else:
        # Some servers refuse a choice among none.
        for name in _OF_TOOLS:
            body.pop(name, None)
    if any(name in body for name in _OF_TEMPLATES):
        # The name for it that most servers pass on to their templates.
        body["chat_template_kwargs"] = template_kwargs(chat)
    return msgspec.json.encode(body)


def _message(message: ChatMessage) -> dict[str, Any]:
    said: dict[str, Any] = {"role": message.role, "content": message.content}
    for name in ("name", "tool_call_id", "reasoning_content"):
        if (value := getattr(message, name)) is not None:
            said[name] = value
    if message.tool_calls:
        said["tool_calls"] = [
            {
                "id": f"call_{index}" if call.id is None else call.id,
                "type": "function",
                "function": {"name": call.function.name, "arguments": call.function.arguments},
            }
            for index, call in enumerate(message.tool_calls)
        ]
    return said


def _said(value: Struct) -> dict[str, Any]:
    return {
        name: _said(found) if isinstance(found, Struct) else found
        for name in value.__struct_fields__
        if (found := getattr(value, name)) is not None and not (isinstance(found, Raw) and bytes(found) in _NOTHING)
    }
