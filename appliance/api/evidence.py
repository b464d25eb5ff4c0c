"""What is learned about a request while it runs, until it becomes its frozen RequestRecord."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web
from msgspec.structs import replace

from appliance.api.captured import CapturedRequest
from appliance.errors import ErrorCode, RequestError
from appliance.models.stream import AnswerEnd, AnswerEvent, AnswerSource, ChoiceEnd, Relayed, Vectors
from appliance.safe_text import without_secrets
from appliance.telemetry.request_record import AnswerEvidence, Fallback, Outcome, RequestRecord
from appliance.telemetry.trace_context import TraceContext
from appliance.types import FinishReason

# So many tokens of a model's answer left, so many seconds after those before them.
TokensSent = Callable[[str, float, int], None]

REQUEST_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


@dataclass(slots=True)
class Evidence:
    """The draft of one request's record. Times come from one monotonic clock; `wall` is UTC at arrival.

    answer_evidence: what a replay needs of the request, as the attempt under way asks it; without who answers.
    known: when it was known who asked.
    tokens_sent: is told of each piece of an answer but the first.
    """

    id: str
    address: str
    method: str
    path: str
    wall: float = field(default_factory=time.time)
    arrived: float = field(default_factory=time.monotonic)
    principal: str | None = None
    key_id: str | None = None
    model: str | None = None
    alias: str | None = None
    fallback: Fallback | None = None
    failed_models: list[str] = field(default_factory=list)
    stream: bool | None = None
    answer_evidence: AnswerEvidence | None = None
    error_code: ErrorCode | None = None
    finish_reason: FinishReason | None = None
    committed: bool = False
    first_text: float | None = None
    completion_tokens: int = 0
    source: AnswerSource | None = None
    end: AnswerEnd | None = None
    captured: CapturedRequest | None = None
    trace: TraceContext | None = None
    known: float | None = None
    tokens_sent: TokensSent | None = None
    last_text: float = 0.0

    @classmethod
    def of(
        cls,
        http: web.Request,
        address: str,
        trace: TraceContext | None = None,
        tokens_sent: TokensSent | None = None,
    ) -> Evidence:
        """Starts the record of a request; a well-formed X-Request-Id of the client's is kept, unless it is a key."""
        sent = http.headers.get("X-Request-Id", "")
        return cls(
            id=sent if REQUEST_ID.fullmatch(sent) and without_secrets(sent) == sent else uuid.uuid4().hex,
            address=address,
            method=http.method[:16],
            path=without_secrets(http.path)[:256],
            trace=trace,
            tokens_sent=tokens_sent,
        )

    def saw(self, event: AnswerEvent) -> None:
        """`event` came from the worker, or from the server that answers in its place."""
        if isinstance(event, Relayed):
            for part in event.parts:
                self.saw(part)
            return
        if isinstance(event, Vectors):
            # What is there to be captured is the request: a vector says nothing to a reader.
            self._note_first()
            return
        if self.captured is not None:
            self.captured.saw(event)
        if isinstance(event, ChoiceEnd):
            if self.finish_reason != "length":
                self.finish_reason = event.reason
            if isinstance(event, AnswerEnd):
                self.end = event
            return
        self._note_text(event.tokens)
        self.completion_tokens += event.tokens

    def _note_first(self) -> None:
        if self.first_text is None:
            self.first_text = time.monotonic()

    def _note_text(self, tokens: int) -> None:
        """Between the choices of one request there are no gaps: they are computed side by side."""
        now = time.monotonic()
        if self.first_text is None:
            self.first_text = now
        elif tokens and self.tokens_sent is not None and self.model is not None and self._n == 1:
            self.tokens_sent(self.model, now - self.last_text, tokens)
        self.last_text = now

    @property
    def _n(self) -> int:
        return 1 if self.answer_evidence is None else self.answer_evidence.n

    def fingerprint(self) -> str | None:
        """The `system_fingerprint` of the answer; stands from its first event on."""
        origin = None if self.source is None else self.source.origin
        return None if origin is None else origin.system_fingerprint

    def failed(self, error: RequestError) -> None:
        """The request ends with `error`."""
        self.error_code = error.code

    @property
    def tokens(self) -> int:
        """Prompt and completion tokens so far."""
        if self.end is not None:
            return self.end.usage.prompt_tokens + self.end.usage.completion_tokens
        started = self.source.started if self.source else None
        return (started.prompt_tokens if started else 0) + self.completion_tokens

    def record(self, answered: int | None, *, client_gone: bool) -> RequestRecord:
        """The frozen record. answered: the status the handler returned, None when it returned nothing."""
        status = answered if answered is not None else 200 if self.committed else 0
        started = self.source.started if self.source else None
        usage = self.end.usage if self.end else None
        timings = self.end.timings if self.end else None
        return RequestRecord(
            id=self.id,
            time=self.wall,
            address=self.address,
            method=self.method,
            path=self.path,
            outcome=self._outcome(status, client_gone),
            status=status,
            total_seconds=round(time.monotonic() - self.arrived, 6),
            principal=self.principal,
            key_id=self.key_id,
            model=self.model,
            alias=self.alias,
            fallback=self.fallback,
            failed_models=tuple(self.failed_models),
            stream=self.stream,
            error_code=self.error_code,
            finish_reason=self.finish_reason,
            prompt_tokens=usage.prompt_tokens if usage else started.prompt_tokens if started else 0,
            cached_tokens=usage.cached_tokens if usage else started.cached_tokens if started else 0,
            completion_tokens=usage.completion_tokens if usage else self.completion_tokens,
            ttft_seconds=None if self.first_text is None else round(self.first_text - self.arrived, 6),
            queue_seconds=timings.queue_seconds if timings else None,
            prefill_seconds=timings.prefill_seconds if timings else None,
            decode_seconds=timings.decode_seconds if timings else None,
            attempts=self.source.attempts if self.source else 1,
            system_fingerprint=self.fingerprint(),
            trace_id=None if self.trace is None else self.trace.trace_id,
            evidence=self._whole_evidence(),
        )

    def _whole_evidence(self) -> AnswerEvidence | None:
        origin = None if self.source is None else self.source.origin
        if origin is None or self.answer_evidence is None:
            return None
        return replace(
            self.answer_evidence, file_sha256=origin.file_sha256, base_url=origin.base_url, served_as=origin.served_as
        )

    def _outcome(self, status: int, client_gone: bool) -> Outcome:
        if self.error_code is None:
            return "client_gone" if client_gone else "ok"
        return "refused" if 400 <= status < 500 else "failed"
