"""Which models are loaded at a time: room is made for the one that is wanted, at the cost of those that are not in use.

A model that is pinned or busy is never unloaded for another. Where only such ones are in the way, the newcomer waits
until one is idle, as long as its requests do: they hear `: ping` meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from msgspec import Struct

from appliance.errors import LoadError
from appliance.models.instance import InstanceState, ModelInstance
from appliance.types import ModelSpec

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
    """It fits when those in `evict` are gone. spec: how to load it."""

    spec: ModelSpec
    evict: tuple[str, ...] = ()


class NoRoom(Struct, frozen=True, kw_only=True):
    """It does not fit now. reason: a sentence, with ways to make it fit. waits: it may when others are idle."""

    reason: str
    waits: bool = False


# Decides by memory alone; what it is given to evict is neither pinned nor busy. Pure.
FindRoom = Callable[[ModelSpec, Sequence[Resident]], Room | NoRoom]


def room_enough(spec: ModelSpec, residents: Sequence[Resident]) -> Room | NoRoom:
    """Where nothing is known of memory."""
    return Room(spec=spec)


class Residency:
    """Belongs to the event loop. One newcomer at a time gets its room; those that wait keep nobody waiting."""

    def __init__(self, find_room: FindRoom = room_enough) -> None:
        self._find_room = find_room
        self._instances: dict[str, ModelInstance] = {}
        self._admitted: set[str] = set()
        self._deciding = asyncio.Lock()
        self._changed = asyncio.Event()

    def add(self, instance: ModelInstance) -> None:
        """One more whose room it is."""
        self._instances[instance.name] = instance
        instance.changed = self._changed.set

    def remove(self, instance: ModelInstance) -> None:
        """It is closed."""
        del self._instances[instance.name]
        self._admitted.discard(instance.name)
        self._changed.set()

    def fits_beside(self, spec: ModelSpec) -> bool:
        """Whether there is room now without anybody leaving."""
        found = decide(spec, self._residents(None), self._find_room)
        return isinstance(found, Room) and not found.evict

    async def make_room(self, newcomer: ModelInstance) -> ModelSpec:
        """How to load it, once there is room. Raises LoadError where there will be none."""
        self._admitted.discard(newcomer.name)
        told = False
        while True:
            async with self._deciding:
                self._changed.clear()
                found = decide(newcomer.spec, self._residents(newcomer), self._find_room)
                if isinstance(found, Room):
                    self._admitted.add(newcomer.name)
                    await self._evict(newcomer.name, found.evict)
                    return found.spec
            if not found.waits or newcomer.unloading:
                raise LoadError(found.reason)
            if not told:
                _log.info("model %s waits for room: %s", newcomer.name, found.reason)
                told = True
            await self._changed.wait()

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


def decide(spec: ModelSpec, residents: Sequence[Resident], find_room: FindRoom) -> Room | NoRoom:
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
    found = find_room(spec, [one for one in residents if one.name not in gone])
    return found if isinstance(found, NoRoom) else Room(spec=found.spec, evict=(*gone, *found.evict))
