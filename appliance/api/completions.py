"""POST /v1/completions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from typing import Final

import msgspec
from aiohttp import web

from appliance.api.attempts import Attempt
from appliance.api.body import decode, read_body
from appliance.api.forward import forwarded
from appliance.api.keys import EVIDENCE, LIMITS
from appliance.api.logprobs import TextLogprobWriter
from appliance.api.openai_schema import CompletionObject, CompletionRequest, TextChoice, TextLogprobs, with_sampling
from appliance.api.request_fields import Asked, asked_of, refuse_unsupported, request_of
from appliance.api.respond import computed, respond
from appliance.api.shape import AnswerObjects, Shape, WholeChoice
from appliance.errors import RequestError
from appliance.models.stream import ChoiceEnd, Text
from appliance.types import LogprobParams, TextPrompt, TokenLogprob, TokenPrompt, Usage
from appliance.upstream_spec import ServedModel, UpstreamSpec

_decoder: Final = msgspec.json.Decoder(with_sampling(CompletionRequest))


async def completions(http: web.Request) -> web.StreamResponse:
    """Continues a prompt as it stands, without a chat template."""
    raw = await read_body(http, http.app[LIMITS]())
    asked = asked_of(http, raw, _decoder)
    return await respond(http, asked, TextEndpoint(http, raw, asked))


class TextEndpoint:
    """One completion, for whichever model answers it. An Endpoint."""

    path: Final = "completions"

    def __init__(self, http: web.Request, raw: bytes, asked: Asked) -> None:
        self.raw = raw
        self._http = http
        self._asked = asked

    @cached_property
    def _body(self) -> CompletionRequest:
        return decode(self.raw, _decoder)

    def attempt(self, spec: ServedModel, seconds_max: float) -> Attempt:
        """See Endpoint."""
        if isinstance(spec, UpstreamSpec):
            return forwarded(self._http, self.raw, self._asked, spec, self.path, seconds_max)
        body = self._body
        refuse_unsupported(best_of=body.best_of not in (None, body.n or 1), echo=body.echo, suffix=body.suffix)
        request = request_of(
            self._http,
            body,
            spec,
            prompt=_prompt(body.prompt),
            max_tokens=body.max_tokens,
            logprobs=_logprobs(body),
            seconds_max=seconds_max,
        )
        shape = self._shape(spec.id, logprobs=request.logprobs is not None)
        return computed(self._http, self._asked, request, shape)

    def shape(self, model: str) -> Shape:
        """See Endpoint."""
        return self._shape(model, logprobs=False)

    def _shape(self, model: str, *, logprobs: bool) -> TextShape:
        draft = self._http[EVIDENCE]
        return TextShape(AnswerObjects(f"cmpl-{draft.id}", model, draft.fingerprint), logprobs=logprobs)


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
