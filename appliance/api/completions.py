"""POST /v1/completions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import msgspec
from aiohttp import web

from appliance.api.body import decode, read_body
from appliance.api.forward import forward
from appliance.api.keys import LIMITS
from appliance.api.logprobs import TextLogprobWriter
from appliance.api.openai_schema import CompletionObject, CompletionRequest, TextChoice, TextLogprobs, with_sampling
from appliance.api.request_fields import include_usage, model_of, refuse_unsupported, request_of
from appliance.api.respond import respond
from appliance.api.shape import AnswerObjects, WholeChoice
from appliance.errors import RequestError
from appliance.models.stream import ChoiceEnd, Text
from appliance.types import LogprobParams, TextPrompt, TokenLogprob, TokenPrompt, Usage
from appliance.upstream_spec import UpstreamSpec

_decoder: Final = msgspec.json.Decoder(with_sampling(CompletionRequest))


async def completions(http: web.Request) -> web.StreamResponse:
    """Continues a prompt as it stands, without a chat template."""
    raw = await read_body(http, http.app[LIMITS]())
    spec = model_of(http, raw, _decoder)
    if isinstance(spec, UpstreamSpec):
        return await forward(http, raw, spec, "completions")
    body = decode(raw, _decoder)
    n = body.n or 1
    refuse_unsupported(best_of=body.best_of not in (None, n), echo=body.echo, suffix=body.suffix)
    request = request_of(
        http,
        body,
        spec,
        prompt=_prompt(body.prompt),
        max_tokens=body.max_tokens,
        logprobs=_logprobs(body),
    )
    shape = TextShape(AnswerObjects(f"cmpl-{request.id}", spec.id), logprobs=request.logprobs is not None)
    return await respond(http, request, shape, n=n, stream=bool(body.stream), include_usage=include_usage(body))


def _logprobs(body: CompletionRequest) -> LogprobParams | None:
    if body.logprobs is None:
        return None
    return LogprobParams(top=body.logprobs, processed=bool(body.post_sampling_probs))


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
    """Chunks and body of one completion. logprobs: the client asked for them."""

    def __init__(self, objects: AnswerObjects, *, logprobs: bool) -> None:
        self._objects = objects
        self._logprobs = logprobs
        self._writers: defaultdict[int, TextLogprobWriter] = defaultdict(TextLogprobWriter)

    def opening(self, choice: int) -> list[CompletionObject]:
        """Nothing comes before the text."""
        return []

    def delta(self, event: Text) -> CompletionObject:
        """Some text."""
        logprobs = self._written(event.choice, event.logprobs) if event.logprobs else None
        return self._objects.make("text_completion", TextChoice(event.text, event.choice, logprobs))

    def finish(self, event: ChoiceEnd, usage: Usage | None) -> CompletionObject:
        """The end of a choice."""
        return self._objects.make("text_completion", TextChoice("", event.choice, None, event.reason), usage=usage)

    def usage(self, usage: Usage) -> CompletionObject:
        """The usage alone."""
        return self._objects.make("text_completion", usage=usage)

    def whole(self, choices: Sequence[WholeChoice], usage: Usage) -> CompletionObject:
        """The answer as one object."""
        out = [
            TextChoice(
                "".join(choice.text),
                index,
                self._written(index, choice.logprobs) if self._logprobs else None,
                choice.reason,
            )
            for index, choice in enumerate(choices)
        ]
        return self._objects.make("text_completion", *out, usage=usage)

    def _written(self, choice: int, tokens: Sequence[TokenLogprob]) -> TextLogprobs:
        return self._writers[choice].write(tokens)
