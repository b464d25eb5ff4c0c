"""From a model name in a request to the instance that answers, within bounds."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from appliance.config import RequestLimits, WorkerLimits
from appliance.errors import RequestError
from appliance.models.choices import ChoiceStreams, choices_of
from appliance.models.instance import InstanceSnapshot, ModelInstance
from appliance.models.launcher import Launcher
from appliance.models.residency import FindRoom, Residency, room_enough
from appliance.models.stream import AnswerSource
from appliance.types import ModelSpec, Request


class Router:
    """All models of this appliance. Belongs to the event loop."""

    def __init__(
        self,
        specs: Sequence[ModelSpec],
        launcher: Launcher,
        limits: RequestLimits,
        worker: WorkerLimits,
        find_room: FindRoom = room_enough,
    ) -> None:
        self._limits = limits
        residency = Residency(find_room)
        self._instances = {
            spec.id: ModelInstance(spec, launcher, worker, make_room=residency.make_room) for spec in specs
        }
        residency.watch(self._instances)
        self._names = {name: spec.id for spec in specs for name in (spec.id, *spec.aliases)}
        self._outstanding: Counter[str] = Counter()
        self._per_principal: Counter[tuple[str, str]] = Counter()
        self._draining = False
        self._drained = asyncio.Event()

    def start(self) -> None:
        """Starts every instance's supervisor."""
        for instance in self._instances.values():
            instance.start()

    async def preloaded(self) -> None:
        """Waits until every preloaded model has been loaded or has failed to."""
        for instance in self._instances.values():
            if instance.spec.preload:
                await instance.settled.wait()

    @property
    def settled(self) -> bool:
        """Whether every preloaded model has been loaded, or has failed to, once."""
        return all(instance.settled.is_set() for instance in self._instances.values() if instance.spec.preload)

    async def close(self, drain_seconds: float) -> None:
        """Drains and ends all instances, side by side."""
        await asyncio.gather(*(instance.close(drain_seconds) for instance in self._instances.values()))

    def hurry(self) -> None:
        """Ends the wait of `close`."""
        for instance in self._instances.values():
            instance.hurry()

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
        self._drained.clear()
        if self._outstanding.total():
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._drained.wait()
        return self._outstanding.total()

    def resume(self) -> None:
        """Takes requests again."""
        self._draining = False

    def instance(self, name: str) -> ModelInstance | None:
        """The model of this id or alias, to load, unload or pin it; None where there is none."""
        model = self._names.get(name)
        return None if model is None else self._instances[model]

    def specs(self) -> list[ModelSpec]:
        """Every model, in the order of models.yaml."""
        return [instance.spec for instance in self._instances.values()]

    def find(self, name: str) -> ModelSpec | None:
        """The model of this id or alias; None where there is none."""
        model = self._names.get(name)
        return None if model is None else self._instances[model].spec

    def reconfigure(self, limits: RequestLimits) -> None:
        """What bounds the requests from now on."""
        self._limits = limits

    def snapshots(self) -> dict[str, InstanceSnapshot]:
        """Every model's state by id."""
        return {model: instance.snapshot() for model, instance in self._instances.items()}

    @contextmanager
    def submit(self, request: Request, n: int = 1) -> Iterator[AnswerSource]:
        """Runs a request for `n` choices, all or none of them; leaving the block before their end aborts them.

        Raises RequestError: invalid_request when n can never be admitted, too_many_requests when the principal has
        too much outstanding, queue_full when the model has, and what `ModelInstance.submit` raises.
        """
        if self._draining:
            raise RequestError("shutting_down", "the service is being drained for maintenance", retry_after=30)
        self._refuse_beyond_bounds(request, n)
        instance = self._instances[request.model]
        wake = asyncio.Event()
        streams = instance.submit(choices_of(request, n), wake)
        self._count(request, n)
        try:
            yield streams[0] if n == 1 else ChoiceStreams(streams, wake)
        finally:
            self._count(request, -n)
            for stream in streams:
                instance.drop(stream)

    def _refuse_beyond_bounds(self, request: Request, n: int) -> None:
        limits, model = self._limits, request.model
        most = min(limits.outstanding_per_principal_max, limits.queue_depth_max)
        if n > most:
            raise RequestError("invalid_request", f"n: at most {most} choices are answered here", param="n")
        asked = "one more" if n == 1 else f"{n} more"
        held = self._per_principal[request.principal, model]
        if held + n > limits.outstanding_per_principal_max:
            raise RequestError(
                "too_many_requests",
                f"{request.principal!r} has {held} requests of model {model!r} outstanding and asks for {asked}; "
                f"the limit is {limits.outstanding_per_principal_max}",
                retry_after=1,
            )
        if self._outstanding[model] + n > limits.queue_depth_max:
            raise RequestError(
                "queue_full",
                f"model {model!r} has {self._outstanding[model]} requests outstanding and is asked for {asked}; "
                f"the limit is {limits.queue_depth_max}",
                retry_after=2,
            )

    def _count(self, request: Request, change: int) -> None:
        self._outstanding[request.model] += change
        key = (request.principal, request.model)
        self._per_principal[key] += change
        if not self._per_principal[key]:
            del self._per_principal[key]
        if not self._outstanding.total():
            self._drained.set()
