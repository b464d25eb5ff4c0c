"""A request against its principal's limits: admitted with an estimate, settled with what it used."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from appliance.api.keys import ANSWER_HEADERS, CALLER, EVIDENCE, LIMIT_QUEUE, NOW, PRINCIPAL_LIMITS
from appliance.security.principal_usage import LimitRefusal
from appliance.types import (
    ChatPrompt,
    EmbeddingPrompt,
    InfillPrompt,
    PoolingPrompt,
    Prompt,
    Request,
    RerankPrompt,
    TextPrompt,
    TokenPrompt,
)

# Of English and code; Chinese has about one. The estimate only has to be near: what was used is settled at the end.
_CHARS_PER_TOKEN: Final = 4
_ANSWER_TOKENS: Final = 256


@asynccontextmanager
async def admitted(http: web.Request, tokens: int, wait_seconds: float) -> AsyncIterator[None]:
    """Counts a request inside the block; tokens: our estimate. wait_seconds: how long it may wait for its turn.

    Raises RequestError (too_many_requests) with Retry-After. Either way the answer says in x-ratelimit-… headers what
    is left.
    """
    caller, draft = http[CALLER], http[EVIDENCE]
    if wait_seconds:
        admission = await http.app[LIMIT_QUEUE].admit(caller.id, caller.settings, tokens, wait_seconds)
    else:
        limits = http.app[PRINCIPAL_LIMITS]
        admission = limits.admit(caller.id, caller.settings, tokens, time.monotonic(), http.app[NOW]())
    http[ANSWER_HEADERS].update(admission.headers())
    if isinstance(admission, LimitRefusal):
        raise admission.error()
    with admission:
        try:
            yield
        finally:
            admission.settle(draft.tokens, time.monotonic())


def estimated_tokens(request: Request, n: int) -> int:
    """About how many prompt and completion tokens a request for `n` choices of each prompt will use."""
    prompts = (request.prompt, *request.further)
    answer = 0 if isinstance(request.prompt, PoolingPrompt) else answer_tokens(request.max_tokens, n)
    return sum(1 + _size_of(prompt) + answer for prompt in prompts)


def _size_of(prompt: Prompt) -> int:
    match prompt:
        case ChatPrompt():
            return tokens_of_text(sum(len(message.content) for message in prompt.messages))
        case TextPrompt():
            return tokens_of_text(len(prompt.text))
        case InfillPrompt():
            return tokens_of_text(len(prompt.prefix) + len(prompt.suffix))
        case TokenPrompt():
            return len(prompt.tokens)
        case EmbeddingPrompt():
            return sum(tokens_of_text(len(one)) if isinstance(one, str) else len(one) for one in prompt.inputs)
        case RerankPrompt():
            return sum(tokens_of_text(len(prompt.query) + len(document)) for document in prompt.documents)


def tokens_of_text(chars: int) -> int:
    """About how many tokens so many characters are."""
    return chars // _CHARS_PER_TOKEN


def answer_tokens(max_tokens: int | None, n: int) -> int:
    """About how many tokens `n` answers will have."""
    return n * min(_ANSWER_TOKENS if max_tokens is None else max_tokens, 4 * _ANSWER_TOKENS)
