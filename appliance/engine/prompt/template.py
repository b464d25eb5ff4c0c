"""A model's chat template."""

from __future__ import annotations

import json
from typing import Any, Final

from jinja2 import Template, TemplateError, TemplateSyntaxError

from appliance.engine.prompt.deadline import DeadlineError, deadline
from appliance.engine.prompt.sandbox import BoundedEnvironment, RaisedByTemplateError
from appliance.engine.prompt.weight import TooLargeError
from appliance.errors import LoadError, RequestError
from appliance.types import ChatMessage, ChatPrompt, ToolCall

SOURCE_BYTES_MAX: Final = 256 * 1024
_REASON_CHARS_MAX: Final = 500


class ChatTemplate:
    """Compiled once, rendered for each chat request. The source comes with the model and is not trusted.

    bos, eos: the texts of the model's first and last token. Raises LoadError when the source cannot be used.
    """

    def __init__(self, source: str, *, bos: str, eos: str, seconds_max: float) -> None:
        self._fixed: dict[str, Any] = {"bos_token": bos, "eos_token": eos, "add_generation_prompt": True}
        self._seconds_max = seconds_max
        self._template = _compiled(source)

    def render(self, prompt: ChatPrompt) -> str:
        """The text for the model. Main thread only; takes at most `seconds_max`. Raises RequestError."""
        variables: dict[str, Any] = {
            **prompt.template_kwargs,
            **self._fixed,
            "messages": [_message(message) for message in prompt.messages],
            "tools": list(prompt.tools) or None,
        }
        try:
            with deadline(self._seconds_max):
                return self._template.render(variables)
        except RaisedByTemplateError as error:
            raise _refused(f"the model's chat template refuses these messages: {error}") from None
        except (DeadlineError, TooLargeError) as error:
            raise _refused(f"the model's chat template was stopped: {error}") from None
        except Exception as error:  # a template can raise whatever Python can
            raise _refused(f"the model's chat template failed: {error or type(error).__name__}") from None


def _compiled(source: str) -> Template:
    size = len(source.encode())
    if size > SOURCE_BYTES_MAX:
        raise LoadError(f"its chat template has {size} bytes, more than the limit of {SOURCE_BYTES_MAX}")
    try:
        return BoundedEnvironment().from_string(source)
    except TemplateSyntaxError as error:
        raise LoadError(f"its chat template does not compile: line {error.lineno}: {error.message}") from None
    except (TemplateError, SyntaxError, RecursionError, MemoryError, ValueError) as error:
        raise LoadError(f"its chat template does not compile: {error or type(error).__name__}") from None


def _refused(message: str) -> RequestError:
    return RequestError("template_error", message[:_REASON_CHARS_MAX], param="messages")


def _message(message: ChatMessage) -> dict[str, Any]:
    """A turn as templates know it: `content` always there, the other fields only where they are set."""
    fields: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.name is not None:
        fields["name"] = message.name
    if message.tool_call_id is not None:
        fields["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        fields["tool_calls"] = [_tool_call(call) for call in message.tool_calls]
    return fields


def _tool_call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.function.name, "arguments": _arguments(call.function.arguments)}
    fields: dict[str, Any] = {"type": call.type, "function": function}
    return fields if call.id is None else fields | {"id": call.id}


class _Arguments(dict[str, Any]):
    """A tool call's arguments: an object for templates that use `tojson`, its JSON text for those that append it."""

    def __init__(self, text: str, fields: dict[str, Any]) -> None:
        super().__init__(fields)
        self._text = text

    def __str__(self) -> str:
        return self._text

    def __add__(self, other: str) -> str:
        return self._text + other

    def __radd__(self, other: str) -> str:
        return other + self._text


def _arguments(text: str) -> _Arguments | str:
    """What is no JSON object stays a text."""
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return _Arguments(text, fields) if isinstance(fields, dict) else text
