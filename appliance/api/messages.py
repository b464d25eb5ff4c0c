"""POST /v1/messages and /v1/messages/count_tokens: Anthropic's Messages API, a chat in other words."""

from __future__ import annotations

from functools import cached_property
from typing import Final

import msgspec
from aiohttp import web

from appliance.api.anthropic_schema import MessageOut, MessagesFields, MessagesRequest, StreamEvent, TokenCount
from appliance.api.attempts import TEXT_STAND_INS, Attempt
from appliance.api.body import decode, json_answer, read_body
from appliance.api.chat import chat_prompt, chat_request
from appliance.api.chat_body import chat_body
from appliance.api.forward import forwarded
from appliance.api.keys import EVIDENCE, LIMITS
from appliance.api.messages_chat import NAMES, chat_of, prompt_chat_of, user_of
from appliance.api.messages_writer import MessageWriter
from appliance.api.openai_schema import ChatCompletionRequest
from appliance.api.operation import COMPUTES, Operation
from appliance.api.request_fields import Asked
from appliance.api.respond import computed_by, respond
from appliance.api.tokens import read_prompt
from appliance.api.told_answer import told
from appliance.api.tool_choice import AskedTools, asked_tools
from appliance.errors import RequestError
from appliance.types import Reading
from appliance.upstream_spec import ServedModel, UpstreamSpec
from appliance.wire import Started

_decoder: Final = msgspec.json.Decoder(MessagesRequest)
_count_decoder: Final = msgspec.json.Decoder(MessagesFields)
MESSAGES: Final = Operation(
    summary="Answers a conversation, in the words of Anthropic's Messages API.",
    body=_decoder.type,
    example={"model": "demo", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 16},
    answer=MessageOut,
    events=StreamEvent,
    codes=COMPUTES,
)
COUNT_TOKENS: Final = Operation(
    summary="How many tokens a conversation has as the model's template renders it, tools included.",
    body=_count_decoder.type,
    example={"model": "demo", "messages": [{"role": "user", "content": "Hello"}]},
    answer=TokenCount,
    codes=COMPUTES,
)


async def messages(http: web.Request) -> web.StreamResponse:
    """Answers a conversation through the model's own template."""
    raw = await read_body(http, http.app[LIMITS]())
    body = decode(raw, _decoder)
    http[EVIDENCE].stream = bool(body.stream)
    asked = Asked(model=body.model, stream=body.stream, user=user_of(body), deadline_seconds=body.deadline_seconds)
    return await respond(http, asked, MessagesEndpoint(http, raw, asked, body))


async def count_tokens(http: web.Request) -> web.StreamResponse:
    """How many tokens a conversation has as the model's template renders it, tools included."""
    body = decode(await read_body(http, http.app[LIMITS]()), _count_decoder)
    read, _ = await read_prompt(http, body.model, chat_prompt(prompt_chat_of(body)), Reading())
    return json_answer(TokenCount(len(read.tokens)))


class MessagesEndpoint:
    """One conversation, for whichever model answers it. An Endpoint."""

    path: Final = "messages"
    stand_ins: Final = TEXT_STAND_INS
    queues: Final = False

    def __init__(self, http: web.Request, raw: bytes, asked: Asked, body: MessagesRequest) -> None:
        self.raw = raw
        self._http = http
        self._asked = asked
        self._body = body

    @cached_property
    def _chat(self) -> ChatCompletionRequest:
        return chat_of(self._body)

    @cached_property
    def _tools(self) -> AskedTools:
        return asked_tools(self._chat)

    def attempt(self, spec: ServedModel, seconds_max: float) -> Attempt:
        """See Endpoint."""
        if isinstance(spec, UpstreamSpec):
            body = chat_body(self._chat, self._tools)
            elsewhere = forwarded(self._http, body, self._asked, spec, "chat/completions", seconds_max)
            return told(elsewhere, self.writer(spec.id), self._tools.wanted(reasoning=True), NAMES)
        try:
            request, wanted = chat_request(self._http, self._chat, self._tools, spec, seconds_max)
        except RequestError as error:
            raise NAMES.error(error) from error
        return computed_by(self._http, self._asked, NAMES.request(request), self.writer(spec.id), wanted=wanted)

    def writer(self, model: str) -> MessageWriter:
        """See Endpoint."""
        thinking = self._body.thinking
        return MessageWriter(
            self._http[EVIDENCE].id,
            model,
            self._started,
            thinking=thinking is None or thinking.display != "omitted",
        )

    def _started(self) -> Started | None:
        source = self._http[EVIDENCE].source
        return None if source is None else source.started
