"""Receives requests for vectors and scores: everything that can refuse one happens here, before the engine sees it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import msgspec

from appliance.engine.pooling.job import PoolingInput, PoolingJob
from appliance.engine.pooling.loop import PoolingLoop
from appliance.errors import RequestError
from appliance.types import EmbeddingPrompt, Prompt, Reading
from appliance.wire import Abort, Add, PromptRead, Step
from appliance.worker.looking import looked_at
from appliance.worker.refusing import refuse, refuse_unreadable


class PoolingReader(Protocol):
    """Makes tokens of a prompt."""

    def read(self, prompt: Prompt) -> tuple[PoolingInput, ...]:
        """What is to be computed. Raises RequestError."""
        ...

    def look(self, number: int, prompt: Prompt, reading: Reading) -> PromptRead:
        """What a prompt is to the model. Raises RequestError."""
        ...


class PoolingIntake:
    """Belongs to the io thread, which is the main thread. `send` may be called beside the engine thread's."""

    def __init__(
        self,
        reader: PoolingReader,
        loop: PoolingLoop,
        send: Callable[[Step], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader = reader
        self._loop = loop
        self._send = send
        self._clock = clock

    def add(self, add: Add) -> None:
        """Hands the request to the engine, or answers it with the one Failed it gets."""
        try:
            if add.reading is not None:
                self._look(add, add.reading)
            else:
                self._loop.submit(self._job(add))
        except RequestError as error:
            refuse(add.number, error, self._loop.status, self._send)
        except Exception as error:
            refuse_unreadable(add.number, error, self._loop.status, self._send)

    def abort(self, abort: Abort) -> None:
        """Passes on the wish to end a request."""
        self._loop.abort(abort.number)

    def _look(self, add: Add, reading: Reading) -> None:
        events = looked_at(self._reader.look(add.number, add.prompt, reading))
        self._send(msgspec.structs.replace(self._loop.status, events=events))

    def _job(self, add: Add) -> PoolingJob:
        arrived = self._clock()
        return PoolingJob(
            number=add.number,
            inputs=self._reader.read(add.prompt),
            arrived=arrived,
            principal=add.principal,
            flow=add.flow,
            weight=add.weight,
            priority=add.priority,
            cache_domain=add.cache_domain,
            dimensions=add.prompt.dimensions if isinstance(add.prompt, EmbeddingPrompt) else None,
            deadline=arrived + add.seconds_max,
        )
