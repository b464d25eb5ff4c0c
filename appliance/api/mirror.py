"""Copies of requests for a version on trial: it answers them, nobody gets the answers, a record says how it went."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable
from typing import Final

import msgspec
from aiohttp import web

from appliance.api.attempts import Attempt, Endpoint
from appliance.api.evidence import Evidence
from appliance.api.keys import EVIDENCE, LIMITS, ROUTER
from appliance.api.timed_events import TimedEvents
from appliance.errors import CODES, ErrorCode, RequestError
from appliance.models.stream import AnswerEnd
from appliance.tasks import TaskOwner
from appliance.telemetry.request_record import RequestRecord

# Further copies are left out: they are a sample, and no second load.
AT_ONCE_MAX: Final = 8
# Our own bounds say nothing of the version.
_OURS: Final[frozenset[ErrorCode]] = frozenset({"queue_full", "too_many_requests", "shutting_down"})

_log = logging.getLogger(__name__)


class Mirrors:
    """Belongs to the event loop. keep: takes the records of the copies."""

    def __init__(self, keep: Callable[[RequestRecord], None]) -> None:
        self._keep = keep
        self._under_way = 0
        self._tasks = TaskOwner("mirrors")

    async def close(self) -> None:
        """Ends those that are under way."""
        await self._tasks.close()

    def copy(self, http: web.Request, endpoint: Endpoint, model: str) -> None:
        """Has `model` answer the request too. The client's answer neither waits for it nor fails with it."""
        if self._under_way >= AT_ONCE_MAX:
            return
        draft = dataclasses.replace(
            http[EVIDENCE], model=model, wall=time.time(), arrived=time.monotonic(), failed_models=[], source=None
        )
        try:
            attempt = endpoint.attempt(http.app[ROUTER].spec(model), http.app[LIMITS]().request_seconds)
        except RequestError as error:
            self._file(draft, error)
            return
        self._under_way += 1
        self._tasks.spawn(self._answer(attempt, draft), name=f"mirror of {draft.id}")

    async def _answer(self, attempt: Attempt, draft: Evidence) -> None:
        failure = None
        try:
            with attempt.submitted as source, TimedEvents(source, draft, attempt.terms.seconds_max) as events:
                draft.source, draft.answer_evidence = source, attempt.evidence
                while not isinstance(await events.next(attempt.terms.seconds_max), AnswerEnd):
                    pass
        except RequestError as error:
            failure = error
        except Exception:
            _log.exception("the copy of request %s failed", draft.id)
            failure = RequestError("internal_error", "the appliance failed")
        finally:
            self._under_way -= 1
        self._file(draft, failure)

    def _file(self, draft: Evidence, failure: RequestError | None) -> None:
        if failure is not None:
            if failure.code in _OURS:
                return
            draft.failed(failure)
        record = draft.record(200 if failure is None else CODES[failure.code][0], client_gone=False)
        self._keep(msgspec.structs.replace(record, mirrored=True))


MIRRORS: Final = web.AppKey("mirrors", Mirrors)
