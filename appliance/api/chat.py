"""POST /v1/chat/completions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Final

import msgspec
from aiohttp import web
from msgspec.structs import replace

from appliance.api.attempts import TEXT_STAND_INS, Attempt
from appliance.api.body import decode, read_body
from appliance.api.chat_shape import CallsAs, ChatShape
from appliance.api.forward import forwarded
from appliance.api.keys import EVIDENCE, LIMITS
from appliance.api.openai_schema import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionRequest,
    ContentPart,
    FunctionIn,
    MessageIn,
    with_sampling,
)
from appliance.api.operation import COMPUTES, Operation
from appliance.api.parsed import AnswerTerms
from appliance.api.request_fields import Asked, asked_of, request_of
from appliance.api.respond import computed, respond
from appliance.api.shape import AnswerObjects, AnswerWriter, ShapedAnswer
from appliance.api.thinking import reasoning_budget, template_kwargs
from appliance.api.tool_choice import AskedTools, asked_tools
from appliance.errors import RequestError
from appliance.types import ChatMessage, ChatPrompt, LogprobParams, ModelSpec, Request, ToolCall, ToolFunction
from appliance.upstream_spec import ServedModel, UpstreamSpec

PARTS_MAX: Final = 100_000
chat_decoder: Final = msgspec.json.Decoder(with_sampling(ChatCompletionRequest))
CHAT_COMPLETIONS: Final = Operation(
    summary="Answers a chat through the model's own template.",
    body=chat_decoder.type,
    example={"model": "demo", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 16},
    answer=ChatCompletion,
    events=ChatCompletionChunk,
    done=True,
    codes=COMPUTES,
)
_ROLES: Final = {"developer": "system", "function": "tool"}


async def chat_completions(http: web.Request) -> web.StreamResponse:
    """Answers a chat through the model's own template."""
    raw = await read_body(http, http.app[LIMITS]())
    asked = asked_of(http, raw, chat_decoder)
    return await respond(http, asked, ChatEndpoint(http, raw, asked))


class ChatEndpoint:
    """One chat request, for whichever model answers it. An Endpoint."""

    path: Final = "chat/completions"
    stand_ins: Final = TEXT_STAND_INS
    queues: Final = False

    def __init__(self, http: web.Request, raw: bytes, asked: Asked) -> None:
        self.raw = raw
        self._http = http
        self._asked = asked

    @cached_property
    def _body(self) -> ChatCompletionRequest:
        return decode(self.raw, chat_decoder)

    @cached_property
    def _tools(self) -> AskedTools:
        return asked_tools(self._body)

    def attempt(self, spec: ServedModel, seconds_max: float) -> Attempt:
        """See Endpoint."""
        if isinstance(spec, UpstreamSpec):
            return forwarded(self._http, self.raw, self._asked, spec, self.path, seconds_max)
        tools = self._tools
        request, wanted = chat_request(self._http, self._body, tools, spec, seconds_max)
        calls_as: CallsAs = "function_call" if tools.legacy else "tool_calls"
        shape = self._shape(spec.id, logprobs=request.logprobs is not None, calls_as=calls_as)
        return computed(self._http, self._asked, request, shape, wanted=wanted)

    def writer(self, model: str) -> AnswerWriter:
        """See Endpoint."""
        shape = self._shape(model, logprobs=False)
        return ShapedAnswer(shape, self._asked.n or 1, include_usage=self._asked.include_usage)

    def _shape(self, model: str, *, logprobs: bool, calls_as: CallsAs = "tool_calls") -> ChatShape:
        draft = self._http[EVIDENCE]
        objects = AnswerObjects(f"chatcmpl-{draft.id}", model, draft.fingerprint)
        return ChatShape(objects, logprobs=logprobs, calls_as=calls_as)


def chat_request(
    http: web.Request, body: ChatCompletionRequest, tools: AskedTools, spec: ModelSpec, seconds_max: float
) -> tuple[Request, AnswerTerms]:
    """What the engine is asked, and how its answer is to be read. Raises RequestError.

    Of every endpoint that answers chats, whatever its own words for them are.
    """
    request = request_of(
        http,
        body,
        spec,
        prompt=chat_prompt(body, tools),
        max_tokens=body.max_completion_tokens or body.max_tokens,
        logprobs=_logprobs(body),
        seconds_max=seconds_max,
    )
    request = replace(request, reasoning_budget=reasoning_budget(body), must_call=tools.must_call(request.constraint))
    return request, tools.wanted(reasoning=body.reasoning_format != "none")


def _logprobs(body: ChatCompletionRequest) -> LogprobParams | None:
    if not body.logprobs:
        if body.top_logprobs:
            raise RequestError(
                "invalid_request",
                "top_logprobs: needs logprobs: true; send it, or leave this out",
                param="top_logprobs",
            )
        return None
    return LogprobParams(top=body.top_logprobs or 0, processed=bool(body.post_sampling_probs))


def chat_prompt(body: ChatCompletionRequest, tools: AskedTools | None = None) -> ChatPrompt:
    """The chat for the model's template. Raises RequestError for what cannot be rendered.

    tools: of the request, where they have been looked at.
    """
    tools = asked_tools(body) if tools is None else tools
    _check_size(body.messages)
    return ChatPrompt(
        messages=tuple(_message(index, message) for index, message in enumerate(body.messages)),
        tools=tools.rendered,
        template_kwargs=template_kwargs(body),
    )


def _check_size(messages: Sequence[MessageIn]) -> None:
    """Turns are counted by the schema; what is inside them only together makes much work."""
    parts = sum(len(message.content) for message in messages if isinstance(message.content, list))
    calls = sum(len(message.tool_calls or ()) for message in messages)
    if parts + calls > PARTS_MAX:
        raise RequestError(
            "invalid_request",
            f"messages: more than {PARTS_MAX} content parts and tool calls; send fewer",
            param="messages",
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
        reasoning_content=message.reasoning_content,
    )


def _function(function: FunctionIn) -> ToolFunction:
    return ToolFunction(name=function.name, arguments=function.arguments)


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
