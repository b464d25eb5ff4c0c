"""From a model name in a request to what answers, an instance or servers elsewhere, within bounds."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Final, Literal

from appliance.alias_spec import ModelsFile
from appliance.config import RequestLimits
from appliance.errors import ErrorCode, RequestError
from appliance.models.breaker import Breaker
from appliance.models.choices import ChoiceStreams, choices_of
from appliance.models.instance import ModelInstance
from appliance.models.queue_wait import wait_seconds
from appliance.models.registry import Means, Registry
from appliance.models.repeats import Repeats
from appliance.models.routes import Route
from appliance.models.snapshot import InstanceSnapshot, InstanceState
from appliance.models.stream import AnswerSource
from appliance.models.turns import Turns
from appliance.models.upstream.request import UpstreamRequest
from appliance.tasks import TaskOwner
from appliance.types import Request
from appliance.upstream_spec import ServedModel

RETRY_SECONDS_MAX: Final = 300
# How it is with the appliance as a whole.
Readiness = Literal["ok", "starting", "failed", "draining"]

_log = logging.getLogger(__name__)


class Router:
    """All requests to the models of this appliance. Belongs to the event loop."""

    def __init__(self, file: ModelsFile, limits: RequestLimits, means: Means) -> None:
        self._limits = limits
        self.registry = Registry(file, means)
        self._outstanding: Counter[str] = Counter()
        self._per_principal: Counter[tuple[str, str]] = Counter()
        # How many principals have requests outstanding, by model.
        self._principals: Counter[str] = Counter()
        self._draining = False
        self._drained = asyncio.Event()
        self._turns = Turns()
        self._breakers: dict[str, Breaker] = {}
        self._tasks = TaskOwner("router")
        self.repeats = Repeats(time.monotonic)

    def start(self) -> None:
        """Starts to serve."""
        self.registry.start()

    async def preloaded(self) -> None:
        """Waits until every preloaded model has been loaded or has failed to."""
        for model in self.registry.models():
            if model.spec.preload:
                await model.settled.wait()

    @property
    def settled(self) -> bool:
        """Whether that is so."""
        return all(model.settled.is_set() for model in self.registry.models() if model.spec.preload)

    async def close(self, drain_seconds: float) -> None:
        """Drains and ends all models, side by side."""
        await self._tasks.close()
        await self.registry.close(drain_seconds)

    def hurry(self) -> None:
        """Ends the wait of `close`."""
        self.registry.hurry()

    @property
    def outstanding(self) -> int:
        """Requests of all models, running and waiting."""
        return self._outstanding.total()

    @property
    def draining(self) -> bool:
        """Whether new requests are refused, for maintenance."""
        return self._draining

    async def drain(self, seconds: float) -> int:
        """Refuses new requests from now on; returns how many still run after at most `seconds`."""
        self._draining = True
        self._turns.wake_all()
        self._drained.clear()
        if self._outstanding.total():
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._drained.wait()
        return self._outstanding.total()

    def resume(self) -> None:
        """Takes requests again."""
        self._draining = False

    def specs(self) -> list[ServedModel]:
        """Every model, in the order of models.yaml."""
        return self.registry.specs()

    def find(self, name: str, principal: str, user: str, allowed: Collection[str]) -> Route | None:
        """See Routes.find."""
        return self.registry.routes.find(name, principal, user, allowed)

    def spec(self, model: str) -> ServedModel:
        """The entry of a model that `find` has just led to."""
        return self.registry.served(model).spec

    def reconfigure(self, limits: RequestLimits) -> None:
        """What bounds the requests from now on."""
        self._limits = limits
        self._turns.wake_all()

    def snapshots(self) -> dict[str, InstanceSnapshot]:
        """Every model's state by id."""
        return {model.spec.id: model.snapshot() for model in self.registry.models()}

    @property
    def readiness(self) -> Readiness:
        """`ok` once every preloaded model serves; not while one has failed, nor in a drain.

        One that was unloaded on purpose is as good as ready: the next request loads it.
        """
        if self.draining:
            return "draining"
        states = [model.snapshot().state for model in self.registry.models() if model.spec.preload]
        if InstanceState.FAILED in states:
            return "failed"
        return "starting" if InstanceState.STARTING in states or not self.settled else "ok"

    def troubles(self) -> list[str]:
        """What an operator should look at: models that keep failing, and servers elsewhere that do."""
        failing = [f"model {model} keeps failing; its requests are refused" for model in self.failing()]
        return failing + [trouble for upstream in self.registry.upstreams() for trouble in upstream.troubles()]

    # ── models that keep failing ──────────────────────────────────────────────────────────────────────────────────

    def failing(self) -> list[str]:
        """Models whose circuit breaker is open."""
        return [model for model in self._breakers if self.is_failing(model)]

    def is_failing(self, model: str) -> bool:
        """Whether that of this model is."""
        return model in self._breakers and self._breakers[model].open

    def failed(self, model: str, code: ErrorCode, began: float) -> None:
        """A request has failed at this model, which had it from then on, on the monotonic clock."""
        if self._breaker(model).failed(code, began):
            _log.error("model %s keeps failing: it gets no requests until a probe is answered", model)
            self._tasks.spawn(self._probe_until_well(model), name=f"probe of {model}")

    def answered(self, model: str) -> None:
        """It has answered a request."""
        self._note_well(model)

    def try_again(self, model: str) -> None:
        """Somebody has mended it."""
        self._note_well(model)

    def _note_well(self, model: str) -> None:
        breaker = self._breakers.get(model)
        if breaker is not None and breaker.succeeded():
            _log.info("model %s answers again", model)

    def _breaker(self, model: str) -> Breaker:
        breaker = self._breakers.get(model)
        if breaker is None:
            breaker = self._breakers[model] = Breaker(time.monotonic)
        breaker.failures_max, breaker.seconds = self._limits.breaker_failures, self._limits.breaker_seconds
        return breaker

    async def _probe_until_well(self, model: str) -> None:
        breaker = self._breaker(model)
        while await self._still_open(breaker):
            if (failure := await self.registry.probe(model)) is None:
                self._note_well(model)
            else:
                _log.warning("model %s: the probe failed: %s", model, failure)
                self._breaker(model).probe_failed()

    async def _still_open(self, breaker: Breaker) -> bool:
        """After its pause."""
        await asyncio.sleep(breaker.pause_seconds())
        return breaker.open

    @contextmanager
    def submit(self, request: Request, n: int = 1) -> Iterator[AnswerSource]:
        """Runs a request for `n` choices of each prompt, all or none; leaving the block before their end aborts them.

        Raises RequestError: invalid_request when n can never be admitted, too_many_requests when the principal has
        too much outstanding, queue_full when the model has, and what `ModelInstance.submit` raises.
        """
        choices = n * (1 + len(request.further))
        self._refuse_beyond_bounds(request.model, request.principal, choices)
        instance = self.registry.instance(request.model)
        if instance is None:
            raise _removed(request.model)
        self._refuse_too_late(instance, request)
        wake = asyncio.Event()
        streams = instance.submit(choices_of(request, n), wake)
        self._count(request.model, request.principal, choices)
        try:
            yield streams[0] if choices == 1 else ChoiceStreams(streams, wake, n)
        finally:
            self._count(request.model, request.principal, -choices)
            for stream in streams:
                instance.drop(stream)

    @contextmanager
    def forward(self, request: UpstreamRequest) -> Iterator[AnswerSource]:
        """Has a request answered elsewhere; leaving the block before its end ends the connection there.

        Raises RequestError as `submit` does, and what `UpstreamModel.submit` raises.
        """
        self._refuse_beyond_bounds(request.model, request.principal, request.n)
        upstream = self.registry.upstream(request.model)
        if upstream is None:
            raise _removed(request.model)
        stream = upstream.submit(request)
        self._count(request.model, request.principal, request.n)
        try:
            yield stream
        finally:
            self._count(request.model, request.principal, -request.n)
            upstream.drop(stream)

    async def wait_for_room(self, model: str, principal: str, seconds_max: float) -> None:
        """Waits until one more request has room at this model; `submit` or `forward` comes next, before any await.

        Raises what they would raise for want of room, where that has lasted for so long or too many wait already.
        """
        await self._turns.wait(model, principal, seconds_max, lambda: self._refuse_beyond_bounds(model, principal, 1))

    def _refuse_beyond_bounds(self, model: str, principal: str, n: int) -> None:
        if self._draining:
            raise RequestError(
                "shutting_down", "the service is being drained for maintenance; try again later", retry_after=30
            )
        if self.is_failing(model):
            raise self._breakers[model].refusal(model)
        limits = self._limits
        most = min(limits.outstanding_per_principal_max, limits.queue_depth_max)
        if n > most:
            raise RequestError("invalid_request", f"n: at most {most} choices are answered here", param="n")
        asked = "one more" if n == 1 else f"{n} more"
        held = self._per_principal[principal, model]
        if held + n > limits.outstanding_per_principal_max:
            raise RequestError(
                "too_many_requests",
                f"{principal!r} has {held} requests of model {model!r} outstanding and asks for {asked}; "
                f"the limit is {limits.outstanding_per_principal_max}; wait until one has ended",
                retry_after=1,
            )
        if self._outstanding[model] + n > limits.queue_depth_max:
            raise RequestError(
                "queue_full",
                f"model {model!r} has {self._outstanding[model]} requests outstanding and is asked for {asked}; "
                f"the limit is {limits.queue_depth_max}; try again later",
                retry_after=2,
            )

    def _refuse_too_late(self, instance: ModelInstance, request: Request) -> None:
        """Who would get no answer in their time is told now, and not at its end."""
        model, info = request.model, instance.snapshot().info
        if request.reading is not None or info is None:
            return
        wait = wait_seconds(
            instance.service.seconds,
            info.parallel,
            self._outstanding[model],
            self._per_principal[request.principal, model],
            self._principals[model] + ((request.principal, model) not in self._per_principal),
        )
        if wait >= request.seconds_max:
            raise RequestError(
                "queue_full",
                f"model {model!r} would begin with this request in about {wait:.0f} s, and it has "
                f"{request.seconds_max:.0f} s; try again later",
                retry_after=math.ceil(min(wait - request.seconds_max + 1, RETRY_SECONDS_MAX)),
            )

    def _count(self, model: str, principal: str, change: int) -> None:
        self._outstanding[model] += change
        key = (principal, model)
        self._principals[model] += key not in self._per_principal
        self._per_principal[key] += change
        if not self._per_principal[key]:
            del self._per_principal[key]
            self._principals[model] -= 1
        if not self._outstanding.total():
            self._drained.set()
        if change < 0:
            self._turns.wake(model)


def _removed(model: str) -> RequestError:
    return RequestError(
        "model_not_found", f"the model {model!r} was just removed; GET /v1/models lists what is there", param="model"
    )
