"""The models that are served, by name; and how a changed models.yaml takes the place of the one before.

A model whose worker must change is loaded beside the old one where there is room, asked for a token, and only then put
in its place. Where there is none, who asks meanwhile waits for the old one's end. What cannot be loaded leaves the old
one serving.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from appliance.alias_spec import ModelsFile
from appliance.config import WorkerLimits
from appliance.errors import RequestError
from appliance.models.file_identity import FileIdentity
from appliance.models.instance import ModelInstance
from appliance.models.kept import KeptWorkers
from appliance.models.launcher import Launcher
from appliance.models.loading import FileCheck, any_file
from appliance.models.model import Model
from appliance.models.models_plan import ModelChange, plan_models
from appliance.models.provenance import Provenance
from appliance.models.residency import NoRoom, Outlook, Residency, Room, RoomEnough, RoomFinder
from appliance.models.routes import Routes
from appliance.models.snapshot import InstanceState
from appliance.models.upstream.model import Dial, UpstreamModel
from appliance.placement.memory import Memory
from appliance.systemd import ServiceManager
from appliance.tasks import TaskOwner
from appliance.types import ModelSpec
from appliance.upstream_spec import ReplicaAccess, ServedModel

# Told the id of a model, and why it was not replaced, None where it was.
Done = Callable[[str, str | None], None]

_LOOK_SECONDS: Final = 0.05

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Means:
    """What models are served with.

    check_file: see ModelLoader. finder: decides by memory. dial: reads the files that requests to servers
    elsewhere need. provenance, kept: see ModelInstance.
    """

    launcher: Launcher
    worker: WorkerLimits = field(default_factory=WorkerLimits)
    check_file: FileCheck = any_file
    finder: RoomFinder = field(default_factory=RoomEnough)
    dial: Dial = lambda replica: ReplicaAccess
    provenance: Provenance = field(default_factory=Provenance)
    kept: KeptWorkers = field(default_factory=lambda: KeptWorkers(ServiceManager(None)))


class Registry:
    """Belongs to the event loop. What it returns is of this moment: ask again for every request.

    file: what is served, by models.yaml. routes: its names.
    """

    def __init__(self, file: ModelsFile, means: Means) -> None:
        self.routes = Routes(file)
        self.file = file
        self._means = means
        self._residency = Residency(means.finder)
        self._models = {spec.id: self._make(spec) for spec in file.models}
        # On their way in, or out: another one serves their model, or none does.
        self._others: list[Model] = []
        self._replacing = asyncio.Lock()
        self._tasks = TaskOwner("models")

    def start(self) -> None:
        """Starts every model: instances wait to be wanted, servers elsewhere are asked for their health."""
        # First, so that what they hold is free for those that load.
        self._means.kept.end_others({instance.kept_name for instance in self.instances()})
        for model in self._models.values():
            model.start()

    async def close(self, drain_seconds: float) -> None:
        """Drains and ends all models, side by side."""
        await asyncio.gather(*(model.close(drain_seconds) for model in self._all()))
        await self._tasks.close()

    def hurry(self) -> None:
        """Ends the wait of `close`."""
        for model in self._all():
            model.hurry()

    def models(self) -> list[Model]:
        """Every model, in the order of models.yaml."""
        return list(self._models.values())

    def specs(self) -> list[ServedModel]:
        """Their entries."""
        return [model.spec for model in self._models.values()]

    def served(self, model: str) -> Model:
        """The model of an id. Raises KeyError."""
        return self._models[model]

    def find(self, name: str) -> Model | None:
        """The model of this id, or that an alias leads to alone; None where there is none."""
        model = self.routes.model(name)
        return None if model is None else self._models[model]

    def instance(self, name: str) -> ModelInstance | None:
        """The same where a worker of ours serves it."""
        model = self.find(name)
        return model if isinstance(model, ModelInstance) else None

    def upstream(self, name: str) -> UpstreamModel | None:
        """The same where servers elsewhere serve it."""
        model = self.find(name)
        return model if isinstance(model, UpstreamModel) else None

    def instances(self) -> list[ModelInstance]:
        """Every instance; those on their way in or out come last."""
        return [model for model in self._all() if isinstance(model, ModelInstance)]

    def upstreams(self) -> list[UpstreamModel]:
        """Every model that servers elsewhere serve."""
        return [model for model in self._models.values() if isinstance(model, UpstreamModel)]

    async def fits_beside(self, model: str) -> bool:
        """Whether a model is loaded, or can be without another one's leaving."""
        found = self._models[model]
        if not isinstance(found, ModelInstance) or found.state is InstanceState.READY:
            return True
        return await self._residency.fits_beside(found.spec)

    async def outlook(self, model: str) -> Outlook | None:
        """What loading a model now would take; None where nobody can tell, or it has what it takes already."""
        found = self._models.get(model)
        if not isinstance(found, ModelInstance) or found.state not in (InstanceState.STOPPED, InstanceState.FAILED):
            return None
        return await self._residency.outlook(found.spec)

    async def preflight(self, model: ModelInstance) -> Room | NoRoom:
        """Whether a model would find room now, and who would leave for it. Loads nothing. Raises LoadError."""
        return await self._residency.preflight(model.wanted)

    async def bring_up(self, model: str) -> str | None:
        """Loads a model, and has it answer. Returns why it could not."""
        found = self._models[model]
        await found.settled.wait() if not isinstance(found, ModelInstance) else await _load(found)
        if found.snapshot().state is not InstanceState.READY:
            return found.snapshot().reason or "it was unloaded"
        return await self._answers(found)

    async def probe(self, model: str) -> str | None:
        """Has a model answer, if it has what it takes. Returns why it could not; None also where it is not loaded."""
        found = self._models.get(model)
        if found is None or found.snapshot().state is InstanceState.STOPPED:
            return None
        if (state := found.snapshot().state) is not InstanceState.READY:
            return f"it is {state.value}"
        return await self._answers(found)

    def memory(self) -> Memory | None:
        """What is free on the machine; None where nobody can tell."""
        return self._means.finder.memory()

    # ── a changed models.yaml ─────────────────────────────────────────────────────────────────────────────────────

    def plan(self, file: ModelsFile) -> tuple[ModelChange, ...]:
        """What `apply` would do."""
        files = [spec.id for spec in file.models if self._has_other_file(spec)]
        return plan_models(self.file, file, files)

    def apply(self, file: ModelsFile, drain_seconds: float, done: Done) -> tuple[ModelChange, ...]:
        """Serves what `file` says from now on; touches only what has changed, and fails no request for it.

        Returns what is being done; `done` is told of each model that is replaced, in turn. A model that leaves, or is
        replaced, has `drain_seconds` for what it works on. A replacement that cannot be loaded leaves the old one.
        """
        changes = self.plan(file)
        wanted = {spec.id: spec for spec in file.models}
        serving = dict(self._models)
        for change in changes:
            match change.action:
                case "add":
                    serving[change.model] = self._make(wanted[change.model], self._next_generation(change.model))
                    serving[change.model].start()
                case "remove":
                    self._tasks.spawn(self._retire(serving.pop(change.model), drain_seconds), name="retire")
                case "adjust":
                    _adjust(serving[change.model], wanted[change.model])
        self._models = {spec.id: serving[spec.id] for spec in file.models}
        self.file, self.routes = file, self.routes.succeeded_by(file)
        replaced = [wanted[change.model] for change in changes if change.action == "replace"]
        if replaced:
            self._tasks.spawn(self._replace_all(replaced, drain_seconds, done), name="replace")
        return changes

    def _all(self) -> list[Model]:
        return [*self._models.values(), *self._others]

    def _make(self, spec: ServedModel, generation: int = 1, after: asyncio.Event | None = None) -> Model:
        """after: what must have happened before an instance asks for room."""
        if not isinstance(spec, ModelSpec):
            return UpstreamModel(spec, self._means.dial)

        async def make_room(instance: ModelInstance) -> ModelSpec:
            if after is not None:
                await after.wait()
            return await self._residency.make_room(instance)

        instance = ModelInstance(
            spec,
            self._means.launcher,
            self._means.worker,
            check_file=self._means.check_file,
            make_room=make_room,
            generation=generation,
            provenance=self._means.provenance,
            kept=self._means.kept,
        )
        self._residency.add(instance)
        return instance

    def _next_generation(self, model: str) -> int:
        known = [instance.generation for instance in self.instances() if instance.spec.id == model]
        return max(known, default=0) + 1

    def _has_other_file(self, spec: ServedModel) -> bool:
        instance = self._models.get(spec.id)
        if not isinstance(instance, ModelInstance) or not isinstance(spec, ModelSpec) or instance.loader.file is None:
            return False
        return FileIdentity.of(spec.path) not in (None, instance.loader.file)

    async def _retire(self, model: Model, drain_seconds: float) -> None:
        self._others.append(model)
        try:
            await model.close(drain_seconds)
        finally:
            self._others.remove(model)
            if isinstance(model, ModelInstance):
                self._residency.remove(model)

    async def _replace_all(self, specs: Sequence[ServedModel], drain_seconds: float, done: Done) -> None:
        for spec in specs:
            # Two at once could each wait for the room of the other.
            async with self._replacing:
                old = self._models.get(spec.id)
                failure = None if old is None else await self._replace(old, spec, drain_seconds)
            if failure is not None:
                _log.error("model %s was not replaced: %s", spec.id, failure)
            done(spec.id, failure)

    async def _replace(self, old: Model, spec: ServedModel, drain_seconds: float) -> str | None:
        """Puts a new model in the old one's place. Returns why it could not be; then the old spec is served on."""
        if not isinstance(old, ModelInstance) or not isinstance(spec, ModelSpec):
            self._take_over(self._make(spec, self._next_generation(spec.id)))
            await self._retire(old, drain_seconds)
            return None
        # Rare, and one of several states may come next.
        while old.busy and old.state is not InstanceState.READY:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_SECONDS)
        if old.spec == spec and not self._has_other_file(spec):
            return None
        if old.state is not InstanceState.READY:
            self._take_over(self._make(spec, self._next_generation(spec.id)))
            await self._retire(old, 0)
            return None
        if await self._residency.fits_beside(spec):
            return await self._replace_beside(old, spec, drain_seconds)
        return await self._replace_after(old, spec, drain_seconds)

    async def _replace_beside(self, old: ModelInstance, spec: ModelSpec, drain_seconds: float) -> str | None:
        new = self._make(spec, self._next_generation(spec.id))
        self._others.append(new)
        new.start()
        failure = await self._try(new)
        self._others.remove(new)
        if self._models.get(spec.id) is not old:
            failure = "the model was removed meanwhile"
        if failure is not None:
            await self._retire(new, 0)
            return failure
        self._models[spec.id] = new
        await self._retire(old, drain_seconds)
        return None

    async def _replace_after(self, old: ModelInstance, spec: ModelSpec, drain_seconds: float) -> str | None:
        gone = asyncio.Event()
        new = self._make(spec, self._next_generation(spec.id), gone)
        self._take_over(new)
        self._tasks.spawn(self._retire_then(old, drain_seconds, gone), name="retire")
        failure = await self._try(new)
        if failure is not None:
            again = self._make(old.spec, self._next_generation(spec.id))
            self._take_over(again)
            await self._retire(new, 0)
            if isinstance(again, ModelInstance):
                again.load()
        return failure

    async def _retire_then(self, old: Model, drain_seconds: float, gone: asyncio.Event) -> None:
        await self._retire(old, drain_seconds)
        gone.set()

    def _take_over(self, new: Model) -> None:
        self._models[new.spec.id] = new
        new.start()

    async def _try(self, new: Model) -> str | None:
        """Loads it, and has it answer. Returns why it could not."""
        assert isinstance(new, ModelInstance)
        new.load()
        await new.settled.wait()
        if new.state is not InstanceState.READY:
            return new.snapshot().reason or "it was unloaded"
        return await self._answers(new)

    async def _answers(self, model: Model) -> str | None:
        """Has it compute one token. Returns why it could not."""
        try:
            await model.probe(self._means.worker.step_seconds_max)
        except TimeoutError:
            return "it gives no token"
        except RequestError as error:
            return error.message
        return None


async def _load(instance: ModelInstance) -> None:
    """Until it is ready, or has failed once more."""
    # An unloading that is under way comes first.
    ended = instance.loads_ended + instance.unloading
    instance.load()
    while instance.state is not InstanceState.READY and instance.loads_ended == ended:  # noqa: ASYNC110
        await asyncio.sleep(_LOOK_SECONDS)


def _adjust(model: Model, spec: ServedModel) -> None:
    if isinstance(model, ModelInstance) and isinstance(spec, ModelSpec):
        model.adjust(spec)
