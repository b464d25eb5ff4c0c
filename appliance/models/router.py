"""From a model name in a request to the instance that answers, within bounds."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from appliance.config import RequestLimits, WorkerLimits
from appliance.errors import RequestError
from appliance.models.choices import ChoiceStreams, choices_of
from appliance.models.file_identity import FileIdentity
from appliance.models.instance import FileCheck, InstanceSnapshot, InstanceState, ModelInstance, any_file
from appliance.models.launcher import Launcher
from appliance.models.models_plan import ModelChange, plan_models
from appliance.models.residency import FindRoom, Residency, room_enough
from appliance.models.stream import AnswerSource
from appliance.tasks import TaskOwner
from appliance.types import ModelSpec, Request

# Told the id of a model, and why it was not replaced, None where it was.
Done = Callable[[str, str | None], None]

_LOOK_SECONDS: Final = 0.05

_log = logging.getLogger(__name__)


class Router:
    """All models of this appliance. Belongs to the event loop."""

    def __init__(
        self,
        specs: Sequence[ModelSpec],
        launcher: Launcher,
        limits: RequestLimits,
        worker: WorkerLimits,
        check_file: FileCheck = any_file,
        find_room: FindRoom = room_enough,
    ) -> None:
        self._limits = limits
        self._launcher = launcher
        self._worker = worker
        self._check_file = check_file
        self._residency = Residency(find_room)
        self._instances = {spec.id: self._make(spec) for spec in specs}
        # On their way in, or out: another instance serves their model, or none does.
        self._others: list[ModelInstance] = []
        self._names = _names_of(specs)
        self._tasks = TaskOwner("router")
        self._replacing = asyncio.Lock()
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
        await asyncio.gather(*(instance.close(drain_seconds) for instance in self.instances()))
        await self._tasks.close()

    def hurry(self) -> None:
        """Ends the wait of `close`."""
        for instance in self.instances():
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

    def instances(self) -> list[ModelInstance]:
        """Every instance, in the order of models.yaml; those on their way in or out come last."""
        return [*self._instances.values(), *self._others]

    def plan(self, specs: Sequence[ModelSpec]) -> tuple[ModelChange, ...]:
        """What `apply` would do."""
        files = [spec.id for spec in specs if self._has_other_file(spec)]
        return plan_models(self.specs(), specs, files)

    def apply(self, specs: Sequence[ModelSpec], drain_seconds: float, done: Done) -> tuple[ModelChange, ...]:
        """Serves `specs` from now on; touches only what has changed, and fails no request for it.

        Returns what is being done; `done` is told of each model that is replaced, in turn. A model that leaves, or is
        replaced, has `drain_seconds` for what it works on. A replacement that cannot be loaded leaves the old one.
        """
        changes = self.plan(specs)
        wanted = {spec.id: spec for spec in specs}
        serving = dict(self._instances)
        for change in changes:
            match change.action:
                case "add":
                    serving[change.model] = self._make(wanted[change.model], self._next_generation(change.model))
                    serving[change.model].start()
                case "remove":
                    self._tasks.spawn(self._retire(serving.pop(change.model), drain_seconds), name="retire")
                case "adjust":
                    serving[change.model].adjust(wanted[change.model])
        self._instances = {spec.id: serving[spec.id] for spec in specs}
        self._names = _names_of(specs)
        replaced = [wanted[change.model] for change in changes if change.action == "replace"]
        if replaced:
            self._tasks.spawn(self._replace_all(replaced, drain_seconds, done), name="replace")
        return changes

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
        instance = self._instances.get(request.model)
        if instance is None:
            raise RequestError("model_not_found", f"the model {request.model!r} was just removed", param="model")
        wake = asyncio.Event()
        streams = instance.submit(choices_of(request, n), wake)
        self._count(request, n)
        try:
            yield streams[0] if n == 1 else ChoiceStreams(streams, wake)
        finally:
            self._count(request, -n)
            for stream in streams:
                instance.drop(stream)

    def _make(self, spec: ModelSpec, generation: int = 1, after: asyncio.Event | None = None) -> ModelInstance:
        """after: what must have happened before it asks for room."""

        async def make_room(instance: ModelInstance) -> ModelSpec:
            if after is not None:
                await after.wait()
            return await self._residency.make_room(instance)

        instance = ModelInstance(
            spec,
            self._launcher,
            self._worker,
            check_file=self._check_file,
            make_room=make_room,
            generation=generation,
        )
        self._residency.add(instance)
        return instance

    def _next_generation(self, model: str) -> int:
        known = [instance.generation for instance in self.instances() if instance.spec.id == model]
        return max(known, default=0) + 1

    def _has_other_file(self, spec: ModelSpec) -> bool:
        instance = self._instances.get(spec.id)
        if instance is None or instance.file is None:
            return False
        return FileIdentity.of(spec.path) not in (None, instance.file)

    async def _retire(self, instance: ModelInstance, drain_seconds: float) -> None:
        self._others.append(instance)
        try:
            await instance.close(drain_seconds)
        finally:
            self._others.remove(instance)
            self._residency.remove(instance)

    async def _replace_all(self, specs: Sequence[ModelSpec], drain_seconds: float, done: Done) -> None:
        for spec in specs:
            # Two at once could each wait for the room of the other.
            async with self._replacing:
                old = self._instances.get(spec.id)
                failure = None if old is None else await self._replace(old, spec, drain_seconds)
            if failure is not None:
                _log.error("model %s was not replaced: %s", spec.id, failure)
            done(spec.id, failure)

    async def _replace(self, old: ModelInstance, spec: ModelSpec, drain_seconds: float) -> str | None:
        """Puts a new instance in the old one's place. Returns why it could not be; then the old spec is served on."""
        # Rare, and one of several states may come next.
        while old.busy and old.state is not InstanceState.READY:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_SECONDS)
        if old.spec == spec and not self._has_other_file(spec):
            return None
        generation = self._next_generation(spec.id)
        if old.state is not InstanceState.READY:
            self._take_over(self._make(spec, generation))
            await self._retire(old, 0)
            return None
        if self._residency.fits_beside(spec):
            return await self._replace_beside(old, self._make(spec, generation), drain_seconds)
        return await self._replace_after(old, spec, generation, drain_seconds)

    async def _replace_beside(self, old: ModelInstance, new: ModelInstance, drain_seconds: float) -> str | None:
        self._others.append(new)
        new.start()
        new.load()
        await new.settled.wait()
        failure = await self._try(new)
        self._others.remove(new)
        if self._instances.get(new.spec.id) is not old:
            failure = "the model was removed meanwhile"
        if failure is not None:
            await self._retire(new, 0)
            return failure
        self._instances[new.spec.id] = new
        await self._retire(old, drain_seconds)
        return None

    async def _replace_after(
        self, old: ModelInstance, spec: ModelSpec, generation: int, drain_seconds: float
    ) -> str | None:
        """There is no room for both: who asks meanwhile waits until the old one has gone and the new one is there."""
        gone = asyncio.Event()
        new = self._make(spec, generation, gone)
        self._take_over(new)
        new.load()
        await self._retire(old, drain_seconds)
        gone.set()
        await new.settled.wait()
        failure = await self._try(new)
        if failure is not None:
            again = self._make(old.spec, generation + 1)
            self._take_over(again)
            await self._retire(new, 0)
            again.load()
        return failure

    def _take_over(self, new: ModelInstance) -> None:
        self._instances[new.spec.id] = new
        new.start()

    async def _try(self, new: ModelInstance) -> str | None:
        """Whether a model that has been loaded answers."""
        if new.state is not InstanceState.READY:
            return new.snapshot().reason or "it was unloaded"
        return await new.probe(self._worker.step_seconds_max)

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


def _names_of(specs: Sequence[ModelSpec]) -> dict[str, str]:
    return {name: spec.id for spec in specs for name in (spec.id, *spec.aliases)}
