"""POST /v1/completions."""

from __future__ import annotations

from typing import Final

import msgspec
from aiohttp import web

from appliance.api.body import read_body
from appliance.api.keys import LIMITS
from appliance.api.openai_schema import CompletionObject, CompletionRequest, TextChoice
from appliance.api.request_fields import include_usage, model_of, refuse_unsupported, request_of
from appliance.api.respond import respond
from appliance.api.shape import AnswerObjects
from appliance.errors import RequestError
from appliance.types import FinishReason, TextPrompt, TokenPrompt, Usage

_decoder: Final = msgspec.json.Decoder(CompletionRequest)


async def completions(http: web.Request) -> web.StreamResponse:
    """Continues a prompt as it stands, without a chat template."""
    body = await read_body(http, _decoder, http.app[LIMITS])
    spec = model_of(http, body)
    refuse_unsupported(
        n=(body.n or 1) > 1,
        best_of=(body.best_of or 1) > 1,
        echo=body.echo,
        suffix=body.suffix,
        logprobs=body.logprobs is not None,
    )
    prompt = _prompt(body.prompt)
    request = request_of(http, body, spec, prompt=prompt, max_tokens=body.max_tokens)
    shape = TextShape(AnswerObjects(f"cmpl-{request.id}", spec.id))
    return await respond(http, request, shape, stream=bool(body.stream), include_usage=include_usage(body))


def _prompt(prompt: str | list[str | int]) -> TextPrompt | TokenPrompt:
    if isinstance(prompt, str):
        return TextPrompt(text=prompt)
    tokens = tuple(item for item in prompt if isinstance(item, int))
    texts = [item for item in prompt if isinstance(item, str)]
    if tokens and not texts:
        return TokenPrompt(tokens=tokens)
    if len(texts) == 1 and not tokens:
        return TextPrompt(text=texts[0])
    raise RequestError("invalid_request", "prompt: send one text or one list of token ids a request", param="prompt")


class TextShape:
    """Chunks and body of one completion."""

    def __init__(self, objects: AnswerObjects) -> None:
        self._objects = objects

    def opening(self) -> list[CompletionObject]:
        """Nothing comes before the text."""
        return []

    def delta(self, text: str) -> CompletionObject:
        """Some text."""
        return self._objects.make("text_completion", TextChoice(text))

    def finish(self, reason: FinishReason, usage: Usage) -> CompletionObject:
        """The end."""
        return self.whole("", reason, usage)

    def usage(self, usage: Usage) -> CompletionObject:
        """The usage alone."""
        return self._objects.make("text_completion", usage=usage)

    def whole(self, text: str, reason: FinishReason, usage: Usage) -> CompletionObject:
        """The answer as one object."""
        return self._objects.make("text_completion", TextChoice(text, finish_reason=reason), usage=usage)
