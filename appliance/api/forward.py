"""A request whose model another server serves: what we decide, and the rest as the client wrote it."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from aiohttp import web
from msgspec import Raw, Struct

from appliance.api.admission import answer_tokens, tokens_of_text
from appliance.api.answer_evidence import evidence_elsewhere
from appliance.api.attempts import Attempt, Terms
from appliance.api.body import decode
from appliance.api.keys import EVIDENCE, ROUTER, settings_of
from appliance.api.openai_schema import ForwardedRequest
from appliance.api.request_fields import Asked, cache_domain
from appliance.api.shape import RelayedAnswer
from appliance.errors import RequestError
from appliance.models.upstream.request import Endpoint, UpstreamRequest, cache_salt, upstream_body
from appliance.upstream_spec import UpstreamSpec

# Every field and entry has a colon. Each takes some hundred bytes while it is looked at, and no context is so long.
COLONS_MAX: Final = 500_000


class _Part(Struct, frozen=True):
    text: str | None = None


class _Turn(Struct, frozen=True):
    """What is text in it; pictures are not counted."""

    content: str | list[_Part] | None = None


_forwarded: Final = msgspec.json.Decoder(ForwardedRequest)
_fields: Final = msgspec.json.Decoder(dict[str, Raw])
_turns: Final = msgspec.json.Decoder(list[_Turn])
_prompts: Final = msgspec.json.Decoder(str | list[Any] | None)


def forwarded(
    http: web.Request, raw: bytes, asked: Asked, spec: UpstreamSpec, endpoint: Endpoint, seconds_max: float
) -> Attempt:
    """Has the request answered by one of the model's servers, and passes on what it says as it says it."""
    refuse_many_fields(raw)
    body, draft = decode(raw, _forwarded), http[EVIDENCE]
    assert draft.principal is not None, "the middleware has run"
    stream, prompts = bool(body.stream), _prompts_of(body)
    prompt_tokens, n = 1 + tokens_of_text(_chars_of(body, prompts)), (body.n or 1) * len(prompts)
    domain = cache_domain(draft.principal, settings_of(http), body.cache_salt)
    fields: dict[str, Raw] = decode(raw, _fields)
    request = UpstreamRequest(
        id=draft.id,
        model=spec.id,
        served_as=spec.model or spec.id,
        principal=draft.principal,
        endpoint=endpoint,
        body=upstream_body(
            fields,
            model=spec.model or spec.id,
            stream=stream,
            cache_salt=cache_salt(domain) if spec.cache_salt else None,
        ),
        n=n,
        stream=stream,
        include_usage=asked.include_usage,
        prompt_tokens=prompt_tokens,
        seconds_max=seconds_max,
        traceparent=None if draft.trace is None else draft.trace.header(),
    )
    max_tokens = body.max_completion_tokens or body.max_tokens
    tokens = prompt_tokens + answer_tokens(max_tokens, n)
    terms = Terms(n, stream, tokens, request.seconds_max)
    evidence = evidence_elsewhere(fields, max_tokens, n)
    repeatable = asked.temperature == 0 and n == 1 and not body.logprobs
    return Attempt(http.app[ROUTER].forward(request), RelayedAnswer(), terms, repeatable, evidence)


def refuse_many_fields(raw: bytes) -> None:
    """Raises RequestError."""
    if raw.count(b":") > COLONS_MAX:
        raise RequestError("invalid_request", f"the body has more than {COLONS_MAX} fields; send fewer")


def _prompts_of(body: ForwardedRequest) -> list[Any]:
    """The prompts of a completion, each of which has its own choices; a chat counts as one."""
    try:
        prompt = _prompts.decode(body.prompt) if body.prompt else None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return [None]
    if isinstance(prompt, list) and prompt and all(isinstance(one, str | list) for one in prompt):
        return prompt
    return [prompt]


def _chars_of(body: ForwardedRequest, prompts: list[Any]) -> int:
    """About how many characters the prompt has. What the server would refuse need not be exact."""
    if not body.messages:
        return sum(len(one) if isinstance(one, str) else 4 * len(one or ()) for one in prompts)
    try:
        turns = _turns.decode(body.messages)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return len(body.messages)
    texts = (turn.content for turn in turns)
    return sum(
        len(text) if isinstance(text, str) else sum(len(part.text or "") for part in text or ()) for text in texts
    )
