"""From a model name in a request to the instance that answers, within bounds."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from appliance.config import RequestLimits, WorkerLimits
from appliance.errors import RequestError
from appliance.models.instance import InstanceSnapshot, ModelInstance
from appliance.models.launcher import Launcher
from appliance.models.stream import ResponseStream
from appliance.types import ModelSpec, Request


class Router:
    """All models of this appliance. Belongs to the event loop."""

    def __init__(
        self, specs: Sequence[ModelSpec], launcher: Launcher, limits: RequestLimits, worker: WorkerLimits
    ) -> None:
        self._limits = limits
        self._instances = {spec.id: ModelInstance(spec, launcher, worker) for spec in specs}
        self._names = {name: spec.id for spec in specs for name in (spec.id, *spec.aliases)}
        self._outstanding: Counter[str] = Counter()
        self._per_principal: Counter[tuple[str, str]] = Counter()

    def start(self) -> None:
        """Starts every instance's supervisor."""
        for instance in self._instances.values():
            instance.start()

    async def preloaded(self) -> None:
        """Waits until every preloaded model has been loaded or has failed to."""
        for instance in self._instances.values():
            if instance.spec.preload:
                await instance.settled.wait()

    async def close(self, drain_seconds: float) -> None:
        """Drains and ends all instances, side by side."""
        await asyncio.gather(*(instance.close(drain_seconds) for instance in self._instances.values()))

    def hurry(self) -> None:
        """Ends the wait of `close`."""
        for instance in self._instances.values():
            instance.hurry()

    def specs(self) -> list[ModelSpec]:
        """Every model, in the order of models.yaml."""
        return [instance.spec for instance in self._instances.values()]

    def spec(self, name: str) -> ModelSpec:
        """The model of this id or alias. Raises RequestError (model_not_found)."""
        model = self._names.get(name)
        if model is None:
            known = ", ".join(self._instances) or "none is configured"
            raise RequestError(
                "model_not_found", f"the model {name[:128]!r} does not exist; known models: {known}", param="model"
            )
        return self._instances[model].spec

    def snapshots(self) -> dict[str, InstanceSnapshot]:
        """Every model's state by id."""
        return {model: instance.snapshot() for model, instance in self._instances.items()}

    @contextmanager
    def submit(self, request: Request) -> Iterator[ResponseStream]:
        """Runs a request; leaving the block before its end aborts it.

        Raises RequestError: too_many_requests when the principal has too much outstanding, queue_full when the model
        has, and what `ModelInstance.submit` raises.
        """
        instance = self._instances[request.model]
        key = (request.principal, request.model)
        if self._per_principal[key] >= self._limits.outstanding_per_principal_max:
            raise RequestError(
                "too_many_requests",
                f"{self._per_principal[key]} requests of {request.principal!r} are outstanding, which is the limit",
                retry_after=1,
            )
        if self._outstanding[request.model] >= self._limits.queue_depth_max:
            raise RequestError("queue_full", f"the queue of model {request.model!r} is full", retry_after=2)
        stream = instance.submit(request)
        self._outstanding[request.model] += 1
        self._per_principal[key] += 1
        try:
            yield stream
        finally:
            self._outstanding[request.model] -= 1
            self._per_principal[key] -= 1
            if not self._per_principal[key]:
                del self._per_principal[key]
            instance.drop(stream)
