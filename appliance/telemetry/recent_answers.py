"""The newest answers of every model in figures, from RequestRecords: what a rollout is judged by."""

from __future__ import annotations

from collections import deque
from typing import Final

from msgspec import Struct

from appliance.telemetry.quantile import quantile
from appliance.telemetry.request_record import RequestRecord

ANSWERS_MAX: Final = 5_000
MODELS_MAX: Final = 256
# Refusals by the model itself: another version of it might not have refused.
_BY_THE_MODEL: Final = frozenset({"context_length_exceeded", "template_error"})


class AnswerFigures(Struct, frozen=True, kw_only=True):
    """Of one model, or several, over some time. Seconds are None without an answer that has them.

    failed: of `answers`. ttft: arrival to the first text. token: of decoding, a token of the answer.
    """

    answers: int = 0
    failed: int = 0
    ttft_p50: float | None = None
    ttft_p95: float | None = None
    token_p50: float | None = None

    @property
    def failed_share(self) -> float:
        """0 to 1."""
        return self.failed / self.answers if self.answers else 0.0


class _Answer(Struct, frozen=True, array_like=True, gc=False):
    ended: float
    failed: bool
    ttft: float | None = None
    token: float | None = None


class RecentAnswers:
    """The newest ANSWERS_MAX of each model. Belongs to the event loop."""

    def __init__(self) -> None:
        self._by_model: dict[str, deque[_Answer]] = {}

    def add(self, record: RequestRecord) -> None:
        """Takes a request that has ended; those that were refused before any model saw them do not count."""
        ended = record.time + record.total_seconds
        for model in record.failed_models:
            self._add(model, _Answer(ended, True))
        if record.model is None or record.fallback == "repeat":
            return
        failed = record.outcome == "failed" or record.error_code in _BY_THE_MODEL
        if failed or record.outcome == "ok":
            self._add(record.model, _Answer(ended, failed, record.ttft_seconds, record.token_seconds))

    def figures(self, *models: str, since: float, until: float = float("inf")) -> AnswerFigures:
        """Of all answers of `models` that ended in this time, UTC seconds since 1970."""
        found = [one for model in models for one in self._by_model.get(model, ()) if since <= one.ended <= until]
        ttft = sorted(one.ttft for one in found if one.ttft is not None and not one.failed)
        token = sorted(one.token for one in found if one.token is not None and not one.failed)
        return AnswerFigures(
            answers=len(found),
            failed=sum(one.failed for one in found),
            ttft_p50=quantile(ttft, 0.50),
            ttft_p95=quantile(ttft, 0.95),
            token_p50=quantile(token, 0.50),
        )

    def _add(self, model: str, answer: _Answer) -> None:
        kept = self._by_model.get(model)
        if kept is None:
            if len(self._by_model) >= MODELS_MAX:
                self._by_model.pop(min(self._by_model, key=lambda known: self._by_model[known][-1].ended))
            kept = self._by_model[model] = deque(maxlen=ANSWERS_MAX)
        kept.append(answer)
