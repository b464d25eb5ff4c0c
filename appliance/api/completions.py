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
from appliance.api.logprobs import TextLogprobWriter, joined_logprobs
from appliance.api.openai_schema import (
    CompletionObject,
    CompletionRequest,
    TextChoice,
    TextCompletion,
    TextLogprobs,
    with_sampling,
)
from appliance.api.operation import COMPUTES, Operation
from appliance.api.request_fields import Asked, asked_of, request_of
from appliance.api.respond import computed, respond
from appliance.api.shape import LOGPROBS_MAX, AnswerObjects, AnswerWriter, ShapedAnswer, WholeChoice
from appliance.errors import RequestError
from appliance.models.stream import ChoiceEnd, Text
from appliance.types import InfillPrompt, LogprobParams, Prompt, TextPrompt, TokenLogprob, TokenPrompt, Usage
from appliance.upstream_spec import ServedModel, UpstreamSpec

# Half of what an answer may have in all.
_PROMPT_LOGPROBS_MAX: Final = LOGPROBS_MAX // 2
_decoder: Final = msgspec.json.Decoder(with_sampling(CompletionRequest))
COMPLETIONS: Final = Operation(
    summary="Continues a prompt as it stands, without a chat template.",
    body=_decoder.type,
    example={"model": "demo", "prompt": "Hello", "max_tokens": 16},
    answer=TextCompletion,
    events=TextCompletion,
    done=True,
    codes=COMPUTES,
)


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
        prompt, *further = _prompts(body)
        drawn = _drawn(body)
        if body.max_tokens == 0 and not body.echo:
            message = "max_tokens: at least 1; 0 is for a prompt that is echoed and not continued"
            raise RequestError("invalid_request", message, param="max_tokens")
        request = request_of(
            self._http,
            body,
            spec,
            prompt=prompt,
            further=tuple(further),
            max_tokens=body.max_tokens,
            logprobs=_logprobs(body, drawn * (1 + len(further)))
            or (LogprobParams() if drawn > (body.n or 1) else None),
            seconds_max=seconds_max,
        )
        echo = [_echoed(prompt, body) for prompt in (prompt, *further)] if body.echo else []
        shape = self._shape(spec.id, logprobs=body.logprobs is not None, echo=echo)
        return computed(self._http, self._asked, request, shape, drawn)

    def writer(self, model: str) -> AnswerWriter:
        """See Endpoint."""
        shape = self._shape(model, logprobs=False, echo=())
        return ShapedAnswer(shape, self._asked.n or 1, include_usage=self._asked.include_usage)

    def _shape(self, model: str, *, logprobs: bool, echo: Sequence[str | None]) -> TextShape:
        draft = self._http[EVIDENCE]
        objects = AnswerObjects(f"cmpl-{draft.id}", model, draft.fingerprint)
        return TextShape(objects, logprobs=logprobs, echo=echo, n=self._asked.n or 1)


def _logprobs(body: CompletionRequest, choices: int) -> LogprobParams | None:
    """Of echoed prompts all choices together get a bounded number."""
    if body.logprobs is None:
        return None
    prompt_max = max(1, _PROMPT_LOGPROBS_MAX // (choices * (1 + body.logprobs))) if body.echo else 0
    return LogprobParams(top=body.logprobs, processed=bool(body.post_sampling_probs), prompt_max=prompt_max)


def _drawn(body: CompletionRequest) -> int:
    """How many choices of a prompt are drawn: the best `n` of them are the answer."""
    n = body.n or 1
    if body.best_of is None:
        return n
    if body.best_of < n:
        raise RequestError(
            "invalid_request", f"best_of: {body.best_of} is less than n, {n}; ask for as many at least", param="best_of"
        )
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


def _echoed(prompt: Prompt, body: CompletionRequest) -> str | None:
    """None for what the model's tokens alone can tell."""
    if body.logprobs is None:
        return _text(prompt, "echo")
    if isinstance(prompt, InfillPrompt):
        message = "echo: of a prompt with a suffix the log probabilities are not told; ask for one or the other"
        raise RequestError("unsupported_parameter", message, param="echo")
    return prompt.text if isinstance(prompt, TextPrompt) else None


def _text(prompt: Prompt, field: str) -> str:
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

    echo: of each prompt what comes before its answers; empty for none. n: choices of each. With log probabilities a
    prompt is echoed once its own are known, which also say what text its tokens are where `echo` does not.
    """

    def __init__(self, objects: AnswerObjects, *, logprobs: bool, echo: Sequence[str | None] = (), n: int = 1) -> None:
        self._objects = objects
        self._logprobs = logprobs
        self._echo = echo
        self._n = n
        self._writers: defaultdict[int, TextLogprobWriter] = defaultdict(TextLogprobWriter)

    def opening(self, choice: int) -> list[CompletionObject]:
        """What is echoed comes before the text."""
        echoed = None if self._logprobs else self._echo_of(choice)
        return [self._objects.make(TextCompletion, TextChoice(echoed, choice))] if echoed else []

    def delta(self, event: Text) -> list[CompletionObject]:
        """Some text."""
        chunks = []
        if event.prompt_logprobs:
            chunks.append(TextChoice(*self._echoed(event.choice, event.prompt_logprobs)))
        if event.text or event.logprobs:
            logprobs = self._written(event.choice, event.logprobs) if event.logprobs else None
            chunks.append(TextChoice(event.text, event.choice, logprobs))
        return [self._objects.make(TextCompletion, chunk) for chunk in chunks]

    def finish(self, event: ChoiceEnd, usage: Usage | None) -> CompletionObject:
        """The end of a choice."""
        return self._objects.make(TextCompletion, TextChoice("", event.choice, None, event.reason), usage=usage)

    def usage(self, usage: Usage) -> CompletionObject:
        """The usage alone."""
        return self._objects.make(TextCompletion, usage=usage)

    def written(self, logprobs: Sequence[TokenLogprob]) -> list[Raw]:
        """Nothing: the lists are of all tokens."""
        return []

    def whole(self, choices: Sequence[WholeChoice], usage: Usage) -> CompletionObject:
        """The answer as one object."""
        out = [self._whole(index, choice) for index, choice in enumerate(choices)]
        return self._objects.make(TextCompletion, *out, usage=usage)

    def _whole(self, index: int, choice: WholeChoice) -> TextChoice:
        text = "".join(choice.text)
        if not self._logprobs:
            return TextChoice((self._echo_of(index) or "") + text, index, None, choice.reason)
        if not choice.prompt_logprobs:
            return TextChoice(text, index, self._written(index, choice.logprobs), choice.reason)
        echoed, _, told = self._echoed(index, choice.prompt_logprobs)
        logprobs = joined_logprobs(told, self._written(index, choice.logprobs))
        return TextChoice(echoed + text, index, logprobs, choice.reason)

    def _echo_of(self, choice: int) -> str | None:
        return self._echo[choice // self._n] if self._echo else None

    def _echoed(self, choice: int, tokens: Sequence[TokenLogprob]) -> tuple[str, int, TextLogprobs]:
        text, told = self._writers[choice].write_prompt(tokens, self._echo_of(choice))
        return text, choice, told

    def _written(self, choice: int, tokens: Sequence[TokenLogprob]) -> TextLogprobs:
        return self._writers[choice].write(tokens)
