"""POST /tokenize, /detokenize and /apply-template: what a prompt is to a model, without an answer.

The fields are those of llama-server and of vLLM.
"""

from __future__ import annotations

import math
from typing import Annotated, Final

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, Struct, UnsetType, defstruct, field, structs

from appliance.api.admission import admitted
from appliance.api.body import decode, json_answer, read_body
from appliance.api.chat import chat_prompt
from appliance.api.keys import EVIDENCE, LIMITS, ROUTER, settings_of
from appliance.api.openai_schema import ChatCompletionRequest
from appliance.api.operation import COMPUTES, Operation
from appliance.api.request_fields import cache_domain, route_of
from appliance.api.timed_events import GRACE_SECONDS, TimedEvents
from appliance.errors import RequestError
from appliance.models.stream import AnswerEnd, ResponseStream
from appliance.types import PROMPT_TOKENS_MAX, Prompt, Reading, Request, TextPrompt, TokenId, TokenPrompt
from appliance.upstream_spec import UpstreamSpec
from appliance.wire import PromptRead


class TokenizeRequest(Struct, frozen=True, kw_only=True):
    """POST /tokenize. content: llama-server's, without special tokens around it. prompt, messages: vLLM's, with them.

    with_pieces: llama-server's, each token with its text. return_token_strs: vLLM's, the texts beside the tokens.
    """

    model: Annotated[str, Meta(min_length=1)]
    content: str | None = None
    prompt: str | None = None
    messages: msgspec.Raw = field(default_factory=msgspec.Raw)
    add_special: bool | None = None
    add_special_tokens: bool | None = None
    parse_special: bool = True
    with_pieces: bool = False
    return_token_strs: bool = False


class DetokenizeRequest(Struct, frozen=True, kw_only=True):
    """POST /detokenize."""

    model: Annotated[str, Meta(min_length=1)]
    tokens: Annotated[tuple[TokenId, ...], Meta(max_length=PROMPT_TOKENS_MAX)]


class TokenAndPiece(Struct, frozen=True):
    """piece: a text, or bytes that are none of their own as numbers."""

    id: int
    piece: str | list[int]


class Tokenized(Struct, frozen=True, kw_only=True):
    """The answer to POST /tokenize. max_model_len: most tokens of one request."""

    tokens: list[int | TokenAndPiece]
    count: int
    max_model_len: int | None
    token_strs: list[str] | UnsetType = UNSET


class Detokenized(Struct, frozen=True, kw_only=True):
    """The answer to POST /detokenize, under both names."""

    content: str
    prompt: str


class Rendered(Struct, frozen=True, kw_only=True):
    """The answer to POST /apply-template."""

    prompt: str


_tokenize_decoder: Final = msgspec.json.Decoder(TokenizeRequest)
_chat_decoder: Final = msgspec.json.Decoder(ChatCompletionRequest)
# What of a chat makes its prompt.
_PROMPT_FIELDS: Final = (
    *("model", "messages", "tools", "tool_choice", "functions", "function_call", "parallel_tool_calls"),
    *("chat_template_kwargs", "reasoning_effort", "enable_thinking", "thinking"),
)
ApplyTemplateRequest: Final = defstruct(
    "ApplyTemplateRequest",
    [
        (item.name, item.type) if item.required else (item.name, item.type, None)
        for item in structs.fields(ChatCompletionRequest)
        if item.name in _PROMPT_FIELDS
    ],
    kw_only=True,
)
_detokenize_decoder: Final = msgspec.json.Decoder(DetokenizeRequest)
TOKENIZE: Final = Operation(
    summary="The tokens of a text, or of a chat as the model's template renders it.",
    body=_tokenize_decoder.type,
    example={"model": "demo", "prompt": "Hello"},
    answer=Tokenized,
    codes=COMPUTES,
)
DETOKENIZE: Final = Operation(
    summary="The text that tokens stand for, control tokens written out.",
    body=_detokenize_decoder.type,
    example={"model": "demo", "tokens": [1, 2, 3]},
    answer=Detokenized,
    codes=COMPUTES,
)
APPLY_TEMPLATE: Final = Operation(
    summary="A chat as the model's template renders it.",
    body=ApplyTemplateRequest,
    example={"model": "demo", "messages": [{"role": "user", "content": "Hello"}]},
    answer=Rendered,
    codes=COMPUTES,
)


async def tokenize(http: web.Request) -> web.StreamResponse:
    """The tokens of a text, or of a chat as the model's template renders it."""
    raw = await read_body(http, http.app[LIMITS]())
    body = decode(raw, _tokenize_decoder)
    given = [name for name in ("content", "prompt") if getattr(body, name) is not None]
    given += ["messages"] if body.messages else []
    if len(given) != 1:
        raise RequestError("invalid_request", "send one of content, prompt and messages", param="content")
    if given == ["messages"]:
        prompt: Prompt = chat_prompt(decode(raw, _chat_decoder))
    else:
        prompt = TextPrompt(text=body.content or body.prompt or "")
    add_special = body.add_special if body.add_special is not None else body.add_special_tokens
    reading = Reading(
        add_special=given != ["content"] if add_special is None else add_special, parse_special=body.parse_special
    )
    read, n_ctx = await read_prompt(http, body.model, prompt, reading)
    pieces = [_piece(piece) for piece in read.pieces]
    tokens: list[int | TokenAndPiece] = list(read.tokens)
    if body.with_pieces:
        tokens = [TokenAndPiece(token, piece) for token, piece in zip(read.tokens, pieces, strict=True)]
    texts = [piece.decode(errors="replace") for piece in read.pieces] if body.return_token_strs else UNSET
    return json_answer(Tokenized(tokens=tokens, count=len(tokens), max_model_len=n_ctx, token_strs=texts))


async def detokenize(http: web.Request) -> web.StreamResponse:
    """The text that tokens stand for, control tokens written out; `content` is llama-server's name for it."""
    body = decode(await read_body(http, http.app[LIMITS]()), _detokenize_decoder)
    read, _ = await read_prompt(http, body.model, TokenPrompt(tokens=body.tokens), Reading())
    return json_answer(Detokenized(content=read.text, prompt=read.text))


async def apply_template(http: web.Request) -> web.StreamResponse:
    """A chat as the model's template renders it."""
    body = decode(await read_body(http, http.app[LIMITS]()), _chat_decoder)
    read, _ = await read_prompt(http, body.model, chat_prompt(body), Reading())
    return json_answer(Rendered(prompt=read.text))


async def read_prompt(http: web.Request, name: str, prompt: Prompt, reading: Reading) -> tuple[PromptRead, int | None]:
    """What the model of this name makes of a prompt, and how many tokens it takes. A model that is not loaded loads."""
    draft, router, seconds = http[EVIDENCE], http.app[ROUTER], http.app[LIMITS]().request_seconds
    assert draft.principal is not None, "the middleware has run"
    spec = router.spec(route_of(http, name).models[0])
    if isinstance(spec, UpstreamSpec):
        raise RequestError(
            "unsupported_parameter",
            f"{name[:128]!r} is served elsewhere; ask that server for its tokens",
            param="model",
        )
    request = Request(
        id=draft.id,
        model=spec.id,
        principal=draft.principal,
        prompt=prompt,
        cache_domain=cache_domain(draft.principal, settings_of(http)),
        seconds_max=seconds,
        reading=reading,
    )
    async with admitted(http, 0, wait_seconds=0):
        with router.submit(request) as source, TimedEvents(source, draft, seconds + GRACE_SECONDS) as events:
            draft.source = source
            while not isinstance(await events.next(math.inf), AnswerEnd):
                pass
    assert isinstance(source, ResponseStream), "there is one choice"
    assert source.read is not None, "what is looked at comes before the end"
    info = router.registry.served(spec.id).snapshot().info
    return source.read, None if info is None else info.n_ctx


def _piece(piece: bytes) -> str | list[int]:
    """As llama-server writes it: bytes that are no text of their own as numbers."""
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return list(piece)
