"""POST /v1/chat/completions."""

from __future__ import annotations

from typing import Final

import msgspec
from aiohttp import web

from appliance.api.body import read_body
from appliance.api.keys import EVIDENCE, LIMITS, ROUTER
from appliance.api.openai_schema import (
    ChatChoice,
    ChatChunkChoice,
    ChatCompletionRequest,
    ChatDelta,
    ChatMessageOut,
    Choice,
    CompletionObject,
    ContentPart,
    MessageIn,
    UsageOut,
)
from appliance.api.request_fields import (
    created_now,
    include_usage,
    refuse_deep,
    refuse_unsupported,
    sampling_of,
    stops_of,
)
from appliance.api.respond import respond
from appliance.errors import RequestError
from appliance.types import ChatMessage, ChatPrompt, FinishReason, Request, ToolCall, ToolFunction, Usage

_decoder: Final = msgspec.json.Decoder(ChatCompletionRequest)
_ROLES: Final = {"developer": "system", "function": "tool"}


async def chat_completions(http: web.Request) -> web.StreamResponse:
    """Answers a chat through the model's own template."""
    body = await read_body(http, _decoder, http.app[LIMITS])
    draft = http[EVIDENCE]
    draft.stream = bool(body.stream)
    spec = http.app[ROUTER].spec(body.model)
    draft.model = spec.id
    request = Request(
        id=draft.id,
        endpoint="chat.completions",
        model=spec.id,
        principal=draft.principal or "",
        prompt=_prompt(body),
        sampling=sampling_of(body, spec.sampling),
        max_tokens=body.max_completion_tokens or body.max_tokens,
        stop=stops_of(body),
    )
    shape = ChatShape(request.id, spec.id)
    return await respond(http, request, shape, stream=bool(body.stream), include_usage=include_usage(body))


def _prompt(body: ChatCompletionRequest) -> ChatPrompt:
    refuse_unsupported(
        n=(body.n or 1) > 1,
        logprobs=body.logprobs,
        response_format=body.response_format is not None and body.response_format.type != "text",
        tool_choice=body.tool_choice not in (None, "auto", "none"),
    )
    tools = body.tools or []
    refuse_deep("tools", tools)
    refuse_deep("chat_template_kwargs", body.chat_template_kwargs)
    return ChatPrompt(
        messages=tuple(_message(index, message) for index, message in enumerate(body.messages)),
        tools=() if body.tool_choice == "none" else tuple(tools),
        template_kwargs=body.chat_template_kwargs or {},
    )


def _message(index: int, message: MessageIn) -> ChatMessage:
    calls = [ToolCall(id=call.id, function=_function(call.function)) for call in message.tool_calls or ()]
    if message.function_call is not None:
        calls.append(ToolCall(function=_function(message.function_call)))
    return ChatMessage(
        role=_ROLES.get(message.role, message.role),
        content=_text(index, message.content),
        name=message.name,
        tool_call_id=message.tool_call_id,
        tool_calls=tuple(calls),
    )


def _function(function: msgspec.Struct) -> ToolFunction:
    return msgspec.convert(function, ToolFunction, from_attributes=True)


def _text(index: int, content: str | list[ContentPart] | None) -> str:
    """The text of a turn; parts are joined by line ends, as chat templates expect one string."""
    if content is None or isinstance(content, str):
        return content or ""
    for number, part in enumerate(content):
        if part.type != "text" or part.text is None:
            place = f"messages[{index}].content[{number}]"
            raise RequestError(
                "invalid_request", f"{place}: only text can be sent, not {part.type[:64]!r}", param=place
            )
    return "\n".join(part.text or "" for part in content)


class ChatShape:
    """Chunks and bodies of one chat completion; all carry the same id."""

    def __init__(self, request_id: str, model: str) -> None:
        self._id = f"chatcmpl-{request_id}"
        self._model = model
        self._created = created_now()

    def opening(self) -> list[CompletionObject]:
        """The role comes first, alone."""
        return [self._chunk(ChatChunkChoice(ChatDelta(role="assistant", content="")))]

    def delta(self, text: str) -> CompletionObject:
        """Some text."""
        return self._chunk(ChatChunkChoice(ChatDelta(content=text)))

    def finish(self, reason: FinishReason, usage: Usage) -> CompletionObject:
        """The end."""
        choice = ChatChunkChoice(ChatDelta(), finish_reason=reason)
        return msgspec.structs.replace(self._chunk(choice), usage=UsageOut.of(usage))

    def usage(self, usage: Usage) -> CompletionObject:
        """The usage alone."""
        return msgspec.structs.replace(self._chunk(), usage=UsageOut.of(usage))

    def whole(self, text: str, reason: FinishReason, usage: Usage) -> CompletionObject:
        """The answer as one object."""
        return CompletionObject(
            id=self._id,
            object="chat.completion",
            created=self._created,
            model=self._model,
            choices=[ChatChoice(ChatMessageOut(text), reason)],
            usage=UsageOut.of(usage),
        )

    def _chunk(self, *choices: Choice) -> CompletionObject:
        return CompletionObject(
            id=self._id,
            object="chat.completion.chunk",
            created=self._created,
            model=self._model,
            choices=list(choices),
        )
