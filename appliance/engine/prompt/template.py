"""A model's chat template."""

from __future__ import annotations

import json
from typing import Any, Final

from jinja2 import Template, TemplateError, TemplateSyntaxError
from msgspec.structs import replace

from appliance.engine.prompt.abilities import PLAIN, Abilities, StoppedError, abilities_of
from appliance.engine.prompt.deadline import DeadlineError, deadline
from appliance.engine.prompt.mending import is_simple, mended, with_names
from appliance.engine.prompt.sandbox import BoundedEnvironment, RaisedByTemplateError
from appliance.engine.prompt.weight import TooLargeError
from appliance.errors import LoadError, RequestError
from appliance.types import ChatMessage, ChatPrompt, ToolCall, ToolFormat

SOURCE_BYTES_MAX: Final = 256 * 1024
_REASON_CHARS_MAX: Final = 500


class ChatTemplate:
    """Compiled once, rendered for each chat request. The source comes with the model and is not trusted.

    bos, eos: the texts of the model's first and last token. tools: how the model writes calls. Raises LoadError when
    the source cannot be used.
    """

    def __init__(self, source: str, *, bos: str, eos: str, seconds_max: float, tools: ToolFormat = "generic") -> None:
        self._fixed: dict[str, Any] = {"bos_token": bos, "eos_token": eos, "add_generation_prompt": True}
        self._seconds_max = seconds_max
        self._tools = tools
        self._template = _compiled(source)
        self._thinking = "message.thinking" in source or "'thinking'" in source
        self._can: Abilities | None = None

    @property
    def shows_tools(self) -> bool:
        """Whether it describes tools itself, and not `mended` for it. Known once a prompt with tools was rendered."""
        return self._can is None or self._can.tools

    def render(self, prompt: ChatPrompt) -> str:
        """The text for the model. Main thread only; each try takes at most `seconds_max`. Raises RequestError.

        What the template cannot show is told with what it can; see `mending`.
        """
        prompt = replace(prompt, messages=with_names(prompt.messages))
        if not is_simple(prompt):
            prompt = mended(prompt, self._abilities(), self._tools)
        no_tools = self._can is None or self._can.no_tools
        try:
            return self._render(prompt, no_tools=no_tools)
        except StoppedError:
            raise
        except RequestError as refusal:
            return self._render_plainly(prompt, refusal)

    def _render_plainly(self, prompt: ChatPrompt, refusal: RequestError) -> str:
        """It refuses the conversation all the same: with user and assistant in turns it has the least to refuse."""
        can = self._abilities()
        for plain in (mended(prompt, can, self._tools), mended(prompt, replace(PLAIN, tools=can.tools), self._tools)):
            try:
                return self._render(plain, no_tools=can.no_tools)
            except RequestError:
                pass
        raise refusal

    def _abilities(self) -> Abilities:
        if self._can is None:
            try:
                self._can = abilities_of(lambda prompt, no_tools: self._render(prompt, no_tools=no_tools))
            except StoppedError:
                self._can = Abilities()
        return self._can

    def _render(self, prompt: ChatPrompt, *, no_tools: bool) -> str:
        variables: dict[str, Any] = {
            **prompt.template_kwargs,
            **self._fixed,
            "messages": [_message(message, thinking=self._thinking) for message in prompt.messages],
            "tools": list(prompt.tools) or (None if no_tools else []),
        }
        try:
            with deadline(self._seconds_max):
                return self._template.render(variables)
        except RaisedByTemplateError as error:
            raise _refused(f"send other messages; the model's chat template refuses these: {error}") from None
        except (DeadlineError, TooLargeError) as error:
            message = f"send a shorter chat; the model's chat template was stopped: {error}"
            raise StoppedError("template_error", message[:_REASON_CHARS_MAX], param="messages") from None
        except Exception as error:  # a template can raise whatever Python can
            raise _refused(
                f"send other messages; the model's chat template failed: {error or type(error).__name__}"
            ) from None


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


def _message(message: ChatMessage, *, thinking: bool) -> dict[str, Any]:
    """A turn as templates know it: `content` always there, the other fields only where they are set.

    thinking: the template has that name for what the assistant thought; beside content it takes none.
    """
    fields: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.name is not None:
        fields["name"] = message.name
    if message.tool_call_id is not None:
        fields["tool_call_id"] = message.tool_call_id
    if message.reasoning_content:
        fields["reasoning_content"] = message.reasoning_content
        if thinking and not message.content:
            fields["thinking"] = message.reasoning_content
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
