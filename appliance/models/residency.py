"""Which models are loaded at a time: room is made for the one that is wanted, at the cost of those that are not in use.

A model that is pinned or busy is never unloaded for another. Where only such ones are in the way, the newcomer waits
until one is idle, as long as its requests do: they hear `: ping` meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from appliance.errors import LoadError
from appliance.models.instance import ModelInstance
from appliance.models.snapshot import InstanceState
from appliance.placement.memory import Memory
from appliance.placement.place import Placement
from appliance.types import ModelInfo, ModelSpec

_log = logging.getLogger(__name__)

_HOLDING = (InstanceState.STARTING, InstanceState.READY, InstanceState.DRAINING)


class Resident(Struct, frozen=True, kw_only=True):
    """A model that has room. name: of the instance. used_at: for comparison with others', in seconds."""

    name: str
    spec: ModelSpec
    busy: bool
    pinned: bool
    used_at: float


class Room(Struct, frozen=True, kw_only=True):
    """It fits when those in `evict` are gone. spec: how to load it. placement: None where memory is not known."""

    spec: ModelSpec
    evict: tuple[str, ...] = ()
    placement: Placement | None = None


class NoRoom(Struct, frozen=True, kw_only=True):
    """It does not fit now. reason: a sentence, with ways to make it fit. waits: it may when others are idle."""

    reason: str
    waits: bool = False


class RoomFinder(Protocol):
    """Decides by memory alone. Belongs to the event loop."""

    async def prepare(self, spec: ModelSpec) -> None:
        """Gets what `find` needs. Raises LoadError."""
        ...

    def find(self, spec: ModelSpec, residents: Sequence[Resident], leaving: Sequence[Resident]) -> Room | NoRoom:
        """The decision of this moment; evicts nobody who is pinned or busy. leaving: those who go in any case."""
        ...

    def admit(self, name: str, spec: ModelSpec, room: Room) -> None:
        """An instance gets this room. spec: as it is configured."""
        ...

    def loaded(self, name: str, info: ModelInfo) -> None:
        """It has been loaded."""
        ...

    def resumed(self, name: str, spec: ModelSpec, placed: ModelSpec, info: ModelInfo) -> None:
        """It was loaded as `placed` before anybody asked. spec: as it is configured, and prepared."""
        ...

    def lacked(self, name: str, device_bytes: int) -> None:
        """A load of it lacked memory and has ended; from now on so much more is expected of each GPU."""
        ...

    def ways(self, spec: ModelSpec, residents: Sequence[Resident], lack_bytes: int) -> tuple[str, ...]:
        """What would make it take less, best first, where so much was lacking of what it was given."""
        ...

    def gone(self, name: str) -> None:
        """It has no worker any more."""
        ...

    def memory(self) -> Memory | None:
        """What is free on the machine; None where nobody can tell."""
        ...


class Outlook(Struct, frozen=True, kw_only=True):
    """What a model that is not loaded would take, and whether there is room without anybody's leaving.

    need_bytes: None where there is no room for it at all.
    """

    need_bytes: int | None
    fits: bool


class RoomEnough:
    """Where nothing is known of memory."""

    async def prepare(self, spec: ModelSpec) -> None:
        """Needs nothing."""

    def find(self, spec: ModelSpec, residents: Sequence[Resident], leaving: Sequence[Resident]) -> Room | NoRoom:
        """As it is."""
        return Room(spec=spec)

    def admit(self, name: str, spec: ModelSpec, room: Room) -> None:
        """Keeps nothing."""

    def loaded(self, name: str, info: ModelInfo) -> None:
        """Keeps nothing."""

    def resumed(self, name: str, spec: ModelSpec, placed: ModelSpec, info: ModelInfo) -> None:
        """Keeps nothing."""

    def lacked(self, name: str, device_bytes: int) -> None:
        """Keeps nothing."""

    def ways(self, spec: ModelSpec, residents: Sequence[Resident], lack_bytes: int) -> tuple[str, ...]:
        """Nobody can tell."""
        return ()

    def gone(self, name: str) -> None:
        """Keeps nothing."""

    def memory(self) -> Memory | None:
        """Nobody can tell."""
        return None


class Residency:
    """Belongs to the event loop. One newcomer at a time gets its room; those that wait keep nobody waiting."""

    def __init__(self, finder: RoomFinder) -> None:
        self._finder = finder
        self._instances: dict[str, ModelInstance] = {}
        self._admitted: set[str] = set()
        self._deciding = asyncio.Lock()
        self._changed = asyncio.Event()

    def add(self, instance: ModelInstance) -> None:
        """One more whose room it is. One whose worker was kept has had it since before this process."""
        self._instances[instance.name] = instance
        if instance.has_stayed:
            self._admitted.add(instance.name)
        instance.changed = lambda: self._note(instance)
        instance.loader.resumed = lambda spec, info: self._resumed(instance, spec, info)
        instance.loaded = lambda info: self._finder.loaded(instance.name, info)
        instance.loader.lacked = lambda device_bytes: self._finder.lacked(instance.name, device_bytes)
        instance.loader.ways = lambda lack_bytes: self._finder.ways(
            instance.wanted, self._residents(instance), lack_bytes
        )

    def remove(self, instance: ModelInstance) -> None:
        """It is closed."""
        del self._instances[instance.name]
        self._admitted.discard(instance.name)
        self._finder.gone(instance.name)
        self._changed.set()

    async def fits_beside(self, spec: ModelSpec) -> bool:
        """Whether there is room now without anybody leaving."""
        await self._finder.prepare(spec)
        found = decide(spec, self._residents(None), self._finder)
        return isinstance(found, Room) and not found.evict

    async def outlook(self, spec: ModelSpec) -> Outlook | None:
        """What loading it now would take; None where nobody can tell."""
        found = await self.preflight(spec)
        if isinstance(found, NoRoom):
            return Outlook(need_bytes=None, fits=False)
        if found.placement is None:
            return None
        footprint = found.placement.footprint
        return Outlook(need_bytes=footprint.host + sum(footprint.devices), fits=not found.evict)

    async def preflight(self, spec: ModelSpec) -> Room | NoRoom:
        """What loading it now would come to. Loads and moves nothing. Raises LoadError."""
        await self._finder.prepare(spec)
        return decide(spec, self._residents(None), self._finder)

    async def make_room(self, newcomer: ModelInstance) -> ModelSpec:
        """How to load it, once there is room. Raises LoadError where there will be none."""
        self._admitted.discard(newcomer.name)
        wanted = newcomer.wanted
        await self._finder.prepare(wanted)
        told = False
        while True:
            async with self._deciding:
                self._changed.clear()
                found = decide(wanted, self._residents(newcomer), self._finder)
                if isinstance(found, Room):
                    self._admitted.add(newcomer.name)
                    self._finder.admit(newcomer.name, wanted, found)
                    await self._evict(newcomer.name, found.evict)
                    return found.spec
            if not found.waits or newcomer.unloading:
                raise LoadError(found.reason)
            if not told:
                _log.info("model %s waits for room: %s", newcomer.name, found.reason)
                told = True
            await self._changed.wait()

    async def _resumed(self, instance: ModelInstance, spec: ModelSpec, info: ModelInfo) -> None:
        """spec: as it was placed."""
        await self._finder.prepare(instance.spec)
        self._finder.resumed(instance.name, instance.spec, spec, info)

    def _note(self, instance: ModelInstance) -> None:
        if instance.state not in _HOLDING:
            self._finder.gone(instance.name)
        self._changed.set()

    async def _evict(self, newcomer: str, others: Sequence[str]) -> None:
        for other in others:
            _log.info("model %s makes room for %s", other, newcomer)
        # All at once, before anybody gives one of them a request.
        leaving = [self._instances[other].unload(0) for other in others]
        if leaving:
            await asyncio.wait(leaving)

    def _residents(self, newcomer: ModelInstance | None) -> list[Resident]:
        return [
            Resident(name=one.name, spec=one.spec, busy=one.busy, pinned=one.pinned, used_at=one.used_at)
            for one in self._instances.values()
            if one is not newcomer and self._holds(one)
        ]

    def _holds(self, instance: ModelInstance) -> bool:
        """One that waits for room itself has none."""
        starting = instance.state is InstanceState.STARTING
        return instance.state in _HOLDING and (instance.name in self._admitted or not starting)


def decide(spec: ModelSpec, residents: Sequence[Resident], finder: RoomFinder) -> Room | NoRoom:
    """Room for `spec` among those that are loaded: first by its group, then by memory. Pure."""
    rivals = [one for one in residents if spec.group is not None and one.spec.group == spec.group]
    for rival in rivals:
        if rival.pinned:
            return NoRoom(
                reason=f"{rival.name!r} of the same group ({spec.group}) is pinned; unpin it, or change a group"
            )
    if any(rival.busy for rival in rivals):
        names = ", ".join(repr(rival.name) for rival in rivals if rival.busy)
        return NoRoom(reason=f"{names} of the same group ({spec.group}) is in use", waits=True)
    gone = tuple(rival.name for rival in rivals)
    found = finder.find(spec, [one for one in residents if one.name not in gone], rivals)
    return found if isinstance(found, NoRoom) else replace(found, evict=(*gone, *found.evict))
