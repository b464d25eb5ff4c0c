"""The attempts to answer one request, one after the other until one has begun: its model, then what steps in for it.

For an alias that is: the version that this client gets, an answer to the same request that is known already, the other
versions and the models of its fallback, the answer that models.yaml has for it.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal, Protocol

import msgspec
from aiohttp import web
from msgspec import Raw

from appliance.api.body import decode
from appliance.api.keys import ANSWER_HEADERS, EVIDENCE, LIMITS, ROUTER
from appliance.api.request_fields import Asked
from appliance.api.shape import AnswerWriter, parts_in
from appliance.api.timed_events import TimedEvents
from appliance.chat import Content
from appliance.errors import ErrorCode, RequestError
from appliance.models.fixed_answer import FixedAnswer
from appliance.models.repeats import repeat_key
from appliance.models.routes import Route
from appliance.models.stream import AnswerEnd, AnswerEvent, AnswerSource, Relayed, Text
from appliance.telemetry.request_record import AnswerEvidence, Fallback
from appliance.types import FinishReason, Usage
from appliance.upstream_spec import ServedModel

FALLBACK_HEADER: Final = "X-Appliance-Fallback"
# What may be answered by somebody else: it is the model's trouble, and not the request's.
STEPPED_IN_FOR: Final[frozenset[ErrorCode]] = frozenset(
    {
        "model_unavailable",
        "model_not_found",
        "engine_crash",
        "queue_full",
        "kv_cache_full",
        "deadline_exceeded",
        "internal_error",
    }
)
# A model is not asked for an answer that it has no time for.
_SECONDS_MIN: Final = 1.0
# Answers that are kept for repeats end by themselves: a call of a tool is no text.
_WHOLE: Final[frozenset[FinishReason]] = frozenset({"stop", "length"})

# What may step in for a text.
TEXT_STAND_INS: Final[frozenset[Fallback]] = frozenset({"model", "repeat", "answer"})

_fields: Final = msgspec.json.Decoder(dict[str, Raw])


@dataclass(frozen=True, slots=True)
class Terms:
    """What one answer is held to. n: choices. tokens: reserved until it is known what was used.

    seconds_max: after this we end it ourselves.
    """

    n: int
    stream: bool
    tokens: int
    seconds_max: float


@dataclass(frozen=True, slots=True)
class Attempt:
    """One way to answer. submitted: begins it; leaving it ends it. repeatable: the same request has the same answer.

    evidence: what a replay needs of the request, where a model answers.
    """

    submitted: AbstractContextManager[AnswerSource]
    writer: AnswerWriter
    terms: Terms
    repeatable: bool = False
    evidence: AnswerEvidence | None = None


class Endpoint(Protocol):
    """What an endpoint makes of one request. raw: its body."""

    raw: bytes

    @property
    def path(self) -> Literal["chat/completions", "completions", "embeddings", "rerank", "messages", "responses"]:
        """Without `/v1/`."""
        ...

    @property
    def stand_ins(self) -> frozenset[Fallback]:
        """What may step in for the version that a client gets."""
        ...

    @property
    def queues(self) -> bool:
        """Whether a request waits for its principal's limits, and is told early that it is being worked on."""
        ...

    def attempt(self, spec: ServedModel, seconds_max: float) -> Attempt:
        """By this model, in at most so much time. Raises RequestError for what is wrong with the request."""
        ...

    def writer(self, model: str) -> AnswerWriter:
        """Of an answer that is fixed."""
        ...


class Attempts:
    """Belongs to one request. A context manager: entering it begins the first attempt that can be begun.

    Made, it has prepared the first one, and raises RequestError for what is wrong with the request.
    writer, terms: of the attempt under way.
    """

    def __init__(self, http: web.Request, asked: Asked, route: Route, endpoint: Endpoint) -> None:
        self._http = http
        self._asked = asked
        self._route = route
        self._endpoint = endpoint
        self._router = http.app[ROUTER]
        self._draft = http[EVIDENCE]
        seconds = min(http.app[LIMITS]().request_seconds, asked.seconds_max)
        self._deadline = time.monotonic() + seconds
        first, *spare = route.models
        allowed = endpoint.stand_ins
        self._first = endpoint.attempt(self._router.spec(first), seconds)
        self.writer, self.terms = self._first.writer, self._first.terms
        known = [self._repeat] if route.fallback.repeats_mib and "repeat" in allowed else []
        written = [self._written] if route.fallback.answer is not None and "answer" in allowed else []
        others = [partial(self._by_model, model) for model in spare if "model" in allowed]
        self._ways: deque[Callable[[], bool]] = deque([self._by_chosen, *known, *others, *written])
        self._under_way = ExitStack()
        self._model: str | None = None
        self._begun = False
        # What the first attempt came to.
        self._failure: RequestError | None = None
        self._failed_source: AnswerSource | None = None
        self._kept: list[str] | None = None

    def __enter__(self) -> Attempts:
        self._go_on()
        return self

    def __exit__(self, *exc: object) -> None:
        self._under_way.close()

    async def next(self, patience: float) -> AnswerEvent | None:
        """The next event; None when nothing came for `patience` seconds. Raises what the last attempt failed with."""
        until = time.monotonic() + patience
        while True:
            try:
                event = await self._events.next(max(0.0, until - time.monotonic()))
            except RequestError as error:
                self._failed(error)
                self._go_on()
                continue
            if event is not None:
                self._saw(event)
            return event

    # ── the ways ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _go_on(self) -> None:
        """Begins the next attempt that can be begun. Raises what the first one failed with where there is none."""
        self._under_way.close()
        while self._ways:
            way = self._ways.popleft()
            try:
                if way():
                    return
            except RequestError as error:
                self._failed(error)
        assert self._failure is not None, "the first way is always tried"
        if self._draft.failed_models:
            self._draft.model = self._draft.failed_models.pop(0)
            self._draft.source = self._failed_source
        self._draft.fallback = None
        self._http[ANSWER_HEADERS].pop(FALLBACK_HEADER, None)
        raise self._failure

    def _failed(self, error: RequestError) -> None:
        """Raises it where nobody can step in. What another model refuses is no fault of the request."""
        hurried = error.code == "deadline_exceeded" and self._asked.seconds_max < math.inf
        if self._model is not None and not hurried:
            self._router.failed(self._model, error.code, self._began)
        if self._begun or (self._failure is None and error.code not in STEPPED_IN_FOR):
            raise error
        if self._failure is None:
            self._failure, self._failed_source = error, self._draft.source
        if self._model is not None:
            self._draft.failed_models.append(self._model)
        self._model = None

    def _by_chosen(self) -> bool:
        self._model = self._route.models[0]
        self._begin(self._first, None)
        return True

    def _by_model(self, model: str) -> bool:
        left = self._deadline - time.monotonic()
        if left < _SECONDS_MIN:
            return False
        attempt = self._endpoint.attempt(self._router.spec(model), left)
        self._model = self._draft.model = model
        self._begin(attempt, "model")
        return True

    def _repeat(self) -> bool:
        found = self._router.repeats.find(self._route.name, self._route.fallback, self._key())
        if found is None:
            return False
        self._draft.model = found.model
        source = FixedAnswer(found.text, reason=found.reason, usage=found.usage, origin=found.origin)
        self._fixed(found.model, source, "repeat")
        return True

    def _written(self) -> bool:
        text, n = self._route.fallback.answer, self._asked.n or 1
        assert text is not None
        self._draft.model = None
        self._fixed(self._route.name, FixedAnswer(text, n), "answer")
        return True

    def _fixed(self, model: str, source: FixedAnswer, fallback: Fallback) -> None:
        n, seconds = self._asked.n or 1, max(_SECONDS_MIN, self._deadline - time.monotonic())
        terms = Terms(n, bool(self._asked.stream), 0, seconds)
        self._begin(Attempt(nullcontext(source), self._endpoint.writer(model), terms), fallback)

    def _begin(self, attempt: Attempt, fallback: Fallback | None) -> None:
        self._began = time.monotonic()
        source = self._under_way.enter_context(attempt.submitted)
        self._events = self._under_way.enter_context(TimedEvents(source, self._draft, attempt.terms.seconds_max))
        self._draft.source, self._draft.answer_evidence = source, attempt.evidence
        self.writer, self.terms = attempt.writer, attempt.terms
        self._draft.fallback = fallback
        if fallback is not None:
            self._http[ANSWER_HEADERS][FALLBACK_HEADER] = fallback
        self._kept = [] if attempt.repeatable and self._route.fallback.repeats_mib else None

    # ── what comes ────────────────────────────────────────────────────────────────────────────────────────────────

    def _saw(self, event: AnswerEvent) -> None:
        self._begun = True
        for part in event.parts if isinstance(event, Relayed) else (event,):
            if isinstance(part, Text):
                if self._kept is not None:
                    self._keep(part)
            elif isinstance(part, AnswerEnd) and self._model is not None:
                self._router.answered(self._model)
                if self._kept is not None and part.reason in _WHOLE:
                    self._remember("".join(self._kept), part.reason, part.usage)

    def _keep(self, text: Text) -> None:
        """Only what is an answer's text and nothing else can be said once more."""
        for part in parts_in(text):
            if not isinstance(part, Content) or part.unparsed_call or self._kept is None:
                self._kept = None
                return
            self._kept.append(part.text)

    def _remember(self, text: str, reason: FinishReason, usage: Usage) -> None:
        assert self._model is not None
        assert self._draft.source is not None
        self._router.repeats.keep(
            *(self._route.name, self._route.fallback, self._key(), self._model, text, reason, usage),
            origin=self._draft.source.origin,
        )

    def _key(self) -> bytes:
        assert self._draft.principal is not None, "the middleware has run"
        fields = decode(self._endpoint.raw, _fields)
        return repeat_key(self._draft.principal, self._endpoint.path, fields)
