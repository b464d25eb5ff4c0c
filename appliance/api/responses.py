"""POST /v1/responses, and how many tokens one would have."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from functools import cached_property
from typing import Final

import msgspec
from aiohttp import web
from msgspec.structs import replace

from appliance.api.attempts import TEXT_STAND_INS, Attempt
from appliance.api.body import decode, json_answer, read_body
from appliance.api.chat import chat_prompt, chat_request
from appliance.api.chat_body import chat_body
from appliance.api.forward import forwarded
from appliance.api.kept_responses import check_keeping, conversation, encoded_items, keep
from appliance.api.keys import EVIDENCE, LIMITS
from appliance.api.operation import COMPUTES, Operation
from appliance.api.request_fields import Asked, asked_of
from appliance.api.respond import computed_by, respond
from appliance.api.responses_input import NAMES, RESPONSES_BODY, Asks, asks
from appliance.api.responses_schema import (
    InputTokens,
    Item,
    ReasoningOut,
    Response,
    ResponseEvent,
    ResponsesRequest,
    TextOut,
)
from appliance.api.responses_writer import ResponseWriter
from appliance.api.shape import AnswerWriter
from appliance.api.tokens import read_prompt
from appliance.api.told_answer import told
from appliance.api.tool_choice import asked_tools
from appliance.errors import RequestError
from appliance.responses.files import response_id
from appliance.types import ChatPrompt, Reading, Request, SamplingParams
from appliance.upstream_spec import ServedModel, UpstreamSpec

# Tokens that `truncation: auto` leaves for an answer whose length is not said.
_ANSWER_ROOM: Final = 1024
_decoder: Final = msgspec.json.Decoder(ResponsesRequest)
CREATE_RESPONSE: Final = Operation(
    summary="Answers a conversation of items, as OpenAI's Responses API does.",
    body=RESPONSES_BODY,
    example={"model": "demo", "input": "Hello", "max_output_tokens": 16},
    answer=Response,
    events=ResponseEvent,
    codes=(*COMPUTES, "response_not_found", "store_unavailable"),
)
COUNT_INPUT_TOKENS: Final = Operation(
    summary="How many tokens a request to /responses has as the model's template renders it.",
    body=RESPONSES_BODY,
    example={"model": "demo", "input": "Hello"},
    answer=InputTokens,
    codes=(*COMPUTES, "response_not_found"),
)
COMPACT_RESPONSE: Final = Operation(
    summary="Refused with a 400: what a conversation comes to is for its client to say.",
    answer=None,
    codes=("unsupported_parameter",),
)


async def create_response(http: web.Request) -> web.StreamResponse:
    """Answers a conversation of items."""
    raw = await read_body(http, http.app[LIMITS]())
    asked = asked_of(http, raw, _decoder)
    body = decode(raw, _decoder)
    asked = replace(asked, n=None, user=body.user or body.safety_identifier)
    if body.store:
        check_keeping(http)
    before = await conversation(http, body.previous_response_id) if body.previous_response_id else ()
    return await respond(http, asked, ResponsesEndpoint(http, raw, asked, body, before))


async def count_input_tokens(http: web.Request) -> web.StreamResponse:
    """How many tokens a request has as the model's template renders it: instructions, tools and what went before."""
    raw = await read_body(http, http.app[LIMITS]())
    body = decode(raw, _decoder)
    before = await conversation(http, body.previous_response_id) if body.previous_response_id else ()
    try:
        chat = asks(raw, body, before, new_item_id).chat
        read, _ = await read_prompt(http, body.model, chat_prompt(chat, asked_tools(chat)), Reading())
    except RequestError as error:
        raise NAMES.error(error) from error
    return json_answer(InputTokens(input_tokens=len(read.tokens)))


async def compact_response(http: web.Request) -> web.StreamResponse:
    """Refused: what a conversation comes to is for its client to say."""
    message = (
        "conversations are not compacted here; ask the model for a summary of the older items and send that in their "
        "place"
    )
    raise RequestError("unsupported_parameter", message)


def new_item_id(prefix: str) -> str:
    """Of an item that came without one."""
    return f"{prefix}_{secrets.token_hex(12)}"


class ResponsesEndpoint:
    """One response, of whichever model answers. An Endpoint. before: the items of the conversation so far."""

    path: Final = "responses"
    stand_ins: Final = TEXT_STAND_INS
    queues: Final = False

    def __init__(
        self, http: web.Request, raw: bytes, asked: Asked, body: ResponsesRequest, before: Sequence[Item] = ()
    ) -> None:
        self.raw = raw
        self._http = http
        self._asked = asked
        self._body = body
        self._before = before
        self._created = time.time()
        self._id = response_id(self._created, secrets.token_hex(19))

    @cached_property
    def _asks(self) -> Asks:
        try:
            found = asks(self.raw, self._body, self._before, new_item_id)
        except RequestError as error:
            raise NAMES.error(error) from error
        if self._body.store:
            self._items = encoded_items(self._http, found.items)
        return found

    def attempt(self, spec: ServedModel, seconds_max: float) -> Attempt:
        """See Endpoint."""
        chat = self._asks.chat
        try:
            tools = asked_tools(chat)
            if isinstance(spec, UpstreamSpec):
                body = chat_body(chat, tools)
                elsewhere = forwarded(self._http, body, self._asked, spec, "chat/completions", seconds_max)
                return told(elsewhere, self._writer(spec.id, None), tools.wanted(reasoning=True), NAMES)
            request, wanted = chat_request(self._http, chat, tools, spec, seconds_max)
            request = self._shortened(request)
        except RequestError as error:
            raise NAMES.error(error) from error
        writer = self._writer(spec.id, request.sampling)
        return computed_by(self._http, self._asked, NAMES.request(request), writer, wanted=wanted)

    def _shortened(self, request: Request) -> Request:
        """Where the client lets us leave out what is too long."""
        if self._body.truncation != "auto":
            return request
        assert isinstance(request.prompt, ChatPrompt), "a conversation is a chat"
        room = self._body.max_output_tokens or _ANSWER_ROOM
        return replace(request, prompt=replace(request.prompt, answer_room=room))

    def writer(self, model: str) -> AnswerWriter:
        """See Endpoint."""
        return self._writer(model, None)

    def _writer(self, model: str, sampling: SamplingParams | None) -> ResponseWriter:
        """sampling: None where nothing is drawn."""
        return ResponseWriter(
            self._begun(model, sampling),
            keep=self._keep if self._body.store else None,
            fingerprint=self._http[EVIDENCE].fingerprint,
        )

    async def _keep(self, response: Response) -> None:
        await keep(self._http, response, self._items)

    def _begun(self, model: str, sampling: SamplingParams | None) -> Response:
        """The response before its first word."""
        body, asked = self._body, self._asks
        return Response(
            id=self._id,
            created_at=int(self._created),
            model=model,
            instructions=body.instructions,
            previous_response_id=body.previous_response_id,
            max_output_tokens=body.max_output_tokens,
            max_tool_calls=body.max_tool_calls,
            temperature=None if sampling is None else sampling.temperature,
            top_p=None if sampling is None else sampling.top_p,
            top_logprobs=body.top_logprobs or 0,
            tools=tuple({"strict": None, "parameters": None, **tool} for tool in asked.tools),
            tool_choice=asked.tool_choice,
            parallel_tool_calls=body.parallel_tool_calls is not False,
            text=TextOut(asked.format),
            reasoning=ReasoningOut(body.reasoning.effort if body.reasoning else None),
            metadata=body.metadata or {},
            store=bool(body.store),
            user=body.user,
            safety_identifier=body.safety_identifier,
            prompt_cache_key=body.prompt_cache_key,
            truncation=body.truncation or "disabled",
        )
