"""A request against its principal's limits: admitted with an estimate, settled with what it used."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from aiohttp import web

from appliance.api.keys import ANSWER_HEADERS, CALLER, EVIDENCE, NOW, PRINCIPAL_LIMITS
from appliance.security.principal_usage import LimitRefusal
from appliance.types import ChatPrompt, Request

# Of English and code; Chinese has about one. The estimate only has to be near: what was used is settled at the end.
_CHARS_PER_TOKEN: Final = 4
_ANSWER_TOKENS: Final = 256


@contextmanager
def admitted(http: web.Request, tokens: int) -> Iterator[None]:
    """Counts a request inside the block; tokens: our estimate.

    Raises RequestError (too_many_requests) with Retry-After. Either way the answer says in x-ratelimit-… headers what
    is left.
    """
    caller, draft = http[CALLER], http[EVIDENCE]
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
    """About how many prompt and completion tokens a request for `n` choices will use."""
    prompt = request.prompt
    if isinstance(prompt, ChatPrompt):
        size = tokens_of_text(sum(len(message.content) for message in prompt.messages))
    else:
        size = tokens_of_text(len(prompt.text)) if hasattr(prompt, "text") else len(prompt.tokens)
    return 1 + size + answer_tokens(request.max_tokens, n)


def tokens_of_text(chars: int) -> int:
    """About how many tokens so many characters are."""
    return chars // _CHARS_PER_TOKEN


def answer_tokens(max_tokens: int | None, n: int) -> int:
    """About how many tokens `n` answers will have."""
    return n * min(max_tokens or _ANSWER_TOKENS, 4 * _ANSWER_TOKENS)
