"""POST /v1/completions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from typing import Final

import msgspec
from aiohttp import web
from msgspec import Raw

from appliance.api.attempts import TEXT_STAND_INS, Attempt
from appliance.api.body import decode, read_body
from appliance.api.forward import forwarded
from appliance.api.keys import EVIDENCE, LIMITS
from appliance.api.logprobs import TextLogprobWriter
from appliance.api.openai_schema import CompletionObject, CompletionRequest, TextChoice, TextLogprobs, with_sampling
from appliance.api.request_fields import Asked, asked_of, request_of
from appliance.api.respond import computed, respond
from appliance.api.shape import AnswerObjects, AnswerWriter, ShapedAnswer, WholeChoice
from appliance.errors import RequestError
from appliance.models.stream import ChoiceEnd, Text
from appliance.types import InfillPrompt, LogprobParams, Prompt, TextPrompt, TokenLogprob, TokenPrompt, Usage
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
    stand_ins: Final = TEXT_STAND_INS
    queues: Final = False

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
        if body.echo and body.logprobs is not None:
            message = "echo: the log probabilities of a prompt are not computed; ask for one or the other"
            raise RequestError("unsupported_parameter", message, param="echo")
        prompt, *further = _prompts(body)
        drawn = _drawn(body)
        request = request_of(
            self._http,
            body,
            spec,
            prompt=prompt,
            further=tuple(further),
            max_tokens=body.max_tokens,
            logprobs=_logprobs(body) or (LogprobParams() if drawn > (body.n or 1) else None),
            seconds_max=seconds_max,
        )
        echo = [_text(prompt) for prompt in (prompt, *further)] if body.echo else []
        shape = self._shape(spec.id, logprobs=body.logprobs is not None, echo=echo)
        return computed(self._http, self._asked, request, shape, drawn)

    def writer(self, model: str) -> AnswerWriter:
        """See Endpoint."""
        shape = self._shape(model, logprobs=False, echo=())
        return ShapedAnswer(shape, self._asked.n or 1, include_usage=self._asked.include_usage)

    def _shape(self, model: str, *, logprobs: bool, echo: Sequence[str]) -> TextShape:
        draft = self._http[EVIDENCE]
        objects = AnswerObjects(f"cmpl-{draft.id}", model, draft.fingerprint)
        return TextShape(objects, logprobs=logprobs, echo=echo, n=self._asked.n or 1)


def _logprobs(body: CompletionRequest) -> LogprobParams | None:
    if body.logprobs is None:
        return None
    return LogprobParams(top=body.logprobs, processed=bool(body.post_sampling_probs))


def _drawn(body: CompletionRequest) -> int:
    """How many choices of a prompt are drawn: the best `n` of them are the answer."""
    n = body.n or 1
    if body.best_of is None:
        return n
    if body.best_of < n:
        raise RequestError("invalid_request", f"best_of: {body.best_of} is less than n, {n}", param="best_of")
    if body.best_of > n and body.stream:
        raise RequestError("invalid_request", "best_of: the best are known at the end; stream: false", param="best_of")
    return body.best_of


def _prompts(body: CompletionRequest) -> list[Prompt]:
    """One text or list of token ids, or several of either; each has choices of its own."""
    prompt = body.prompt
    if isinstance(prompt, str):
        found: list[Prompt] = [TextPrompt(text=prompt)]
    elif prompt and all(isinstance(item, int) for item in prompt):
        found = [TokenPrompt(tokens=tuple(item for item in prompt if isinstance(item, int)))]
    elif prompt and not any(isinstance(item, int) for item in prompt):
        found = [
            TextPrompt(text=item) if isinstance(item, str) else TokenPrompt(tokens=tuple(item))
            for item in prompt
            if not isinstance(item, int)
        ]
    else:
        message = "prompt: send a text, a list of token ids, or a list of either, and none that is empty"
        raise RequestError("invalid_request", message, param="prompt")
    if body.suffix:
        found = [InfillPrompt(prefix=_text(one, "suffix"), suffix=body.suffix) for one in found]
    return found


def _text(prompt: Prompt, field: str = "echo") -> str:
    match prompt:
        case TextPrompt():
            return prompt.text
        case InfillPrompt():
            return prompt.prefix
        case _:
            message = f"{field}: takes a prompt that is a text; /detokenize makes one of token ids"
            raise RequestError("invalid_request", message, param=field)


class TextShape:
    """Chunks and body of one completion. logprobs: the client asked for them.

    echo: of each prompt what comes before its answers; empty for none. n: choices of each.
    """

    def __init__(self, objects: AnswerObjects, *, logprobs: bool, echo: Sequence[str] = (), n: int = 1) -> None:
        self._objects = objects
        self._logprobs = logprobs
        self._echo = echo
        self._n = n
        self._writers: defaultdict[int, TextLogprobWriter] = defaultdict(TextLogprobWriter)

    def opening(self, choice: int) -> list[CompletionObject]:
        """What is echoed comes before the text."""
        echoed = self._echoed(choice)
        return [self._objects.make("text_completion", TextChoice(echoed, choice))] if echoed else []

    def delta(self, event: Text) -> list[CompletionObject]:
        """Some text."""
        logprobs = self._written(event.choice, event.logprobs) if event.logprobs else None
        return [self._objects.make("text_completion", TextChoice(event.text, event.choice, logprobs))]

    def finish(self, event: ChoiceEnd, usage: Usage | None) -> CompletionObject:
        """The end of a choice."""
        return self._objects.make("text_completion", TextChoice("", event.choice, None, event.reason), usage=usage)

    def usage(self, usage: Usage) -> CompletionObject:
        """The usage alone."""
        return self._objects.make("text_completion", usage=usage)

    def written(self, logprobs: Sequence[TokenLogprob]) -> list[Raw]:
        """Nothing: the lists are of all tokens."""
        return []

    def whole(self, choices: Sequence[WholeChoice], usage: Usage) -> CompletionObject:
        """The answer as one object."""
        out = [
            TextChoice(
                self._echoed(index) + "".join(choice.text),
                index,
                self._written(index, choice.logprobs) if self._logprobs else None,
                choice.reason,
            )
            for index, choice in enumerate(choices)
        ]
        return self._objects.make("text_completion", *out, usage=usage)

    def _echoed(self, choice: int) -> str:
        return self._echo[choice // self._n] if self._echo else ""

    def _written(self, choice: int, tokens: Sequence[TokenLogprob]) -> TextLogprobs:
        return self._writers[choice].write(tokens)
