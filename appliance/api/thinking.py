"""What a request says of thinking, in the words of several servers, as the variables that chat templates know."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from appliance.api.openai_schema import ChatCompletionRequest, Thinking
from appliance.api.request_fields import free_form

_kwargs_decoder: Final = msgspec.json.Decoder(dict[str, Any])


def template_kwargs(body: ChatCompletionRequest) -> dict[str, Any]:
    """`chat_template_kwargs`, and what the other fields say where it does not say it. Raises RequestError.

    enable_thinking is the name that most templates know, thinking that of DeepSeek's and Granite's, reasoning_effort
    that of gpt-oss's.
    """
    said: dict[str, Any] = {}
    if body.reasoning_effort is not None:
        said["reasoning_effort"] = body.reasoning_effort
    enabled = _enabled(body)
    if enabled is not None:
        said["enable_thinking"] = said["thinking"] = enabled
    kwargs = free_form("chat_template_kwargs", body.chat_template_kwargs, _kwargs_decoder) or {}
    # Dify sends the switch under one name or the other.
    if isinstance(switch := kwargs.get("enable_thinking", kwargs.get("thinking")), bool):
        said["enable_thinking"] = said["thinking"] = switch
    return said | kwargs


def _enabled(body: ChatCompletionRequest) -> bool | None:
    if body.enable_thinking is not None:
        return body.enable_thinking
    match body.thinking:
        case bool() as enabled:
            return enabled
        case Thinking(type=kind):
            return kind != "disabled"
    return False if body.reasoning_effort == "none" else None


def reasoning_budget(body: ChatCompletionRequest) -> int | None:
    """Most tokens to think with; None: as many as the model wants."""
    if body.reasoning_budget is not None:
        return None if body.reasoning_budget < 0 else body.reasoning_budget
    return body.thinking.budget_tokens if isinstance(body.thinking, Thinking) else None
