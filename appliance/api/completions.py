"""POST /v1/completions."""

from __future__ import annotations

from typing import Final

import msgspec
from aiohttp import web

from appliance.api.body import read_body
from appliance.api.keys import EVIDENCE, LIMITS, ROUTER
from appliance.api.openai_schema import Choice, CompletionObject, CompletionRequest, TextChoice, UsageOut
from appliance.api.request_fields import created_now, include_usage, refuse_unsupported, sampling_of, stops_of
from appliance.api.respond import respond
from appliance.errors import RequestError
from appliance.types import FinishReason, Request, TextPrompt, TokenPrompt, Usage

_decoder: Final = msgspec.json.Decoder(CompletionRequest)


async def completions(http: web.Request) -> web.StreamResponse:
    """Continues a prompt as it stands, without a chat template."""
    body = await read_body(http, _decoder, http.app[LIMITS])
    draft = http[EVIDENCE]
    draft.stream = bool(body.stream)
    spec = http.app[ROUTER].spec(body.model)
    draft.model = spec.id
    refuse_unsupported(
        n=(body.n or 1) > 1,
        best_of=(body.best_of or 1) > 1,
        echo=body.echo,
        suffix=body.suffix,
        logprobs=body.logprobs is not None,
    )
    request = Request(
        id=draft.id,
        endpoint="completions",
        model=spec.id,
        principal=draft.principal or "",
        prompt=_prompt(body.prompt),
        sampling=sampling_of(body, spec.sampling),
        max_tokens=body.max_tokens,
        stop=stops_of(body),
    )
    shape = TextShape(request.id, spec.id)
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
    """Chunks and bodies of one completion; all carry the same id."""

    def __init__(self, request_id: str, model: str) -> None:
        self._id = f"cmpl-{request_id}"
        self._model = model
        self._created = created_now()

    def opening(self) -> list[CompletionObject]:
        """Nothing comes before the text."""
        return []

    def delta(self, text: str) -> CompletionObject:
        """Some text."""
        return self._object(TextChoice(text))

    def finish(self, reason: FinishReason, usage: Usage) -> CompletionObject:
        """The end."""
        return self.whole("", reason, usage)

    def usage(self, usage: Usage) -> CompletionObject:
        """The usage alone."""
        return msgspec.structs.replace(self._object(), usage=UsageOut.of(usage))

    def whole(self, text: str, reason: FinishReason, usage: Usage) -> CompletionObject:
        """The answer as one object."""
        return msgspec.structs.replace(self._object(TextChoice(text, finish_reason=reason)), usage=UsageOut.of(usage))

    def _object(self, *choices: Choice) -> CompletionObject:
        return CompletionObject(
            id=self._id, object="text_completion", created=self._created, model=self._model, choices=list(choices)
        )
