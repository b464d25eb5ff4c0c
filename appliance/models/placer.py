"""Room by memory: what a model will take, what the machine has free, and who must leave for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from appliance.errors import GgufError
from appliance.gguf.facts import ModelFacts, facts_of
from appliance.gguf.header import GgufHeader, read_header
from appliance.gguf.quantised import smaller_models
from appliance.gguf.split import join_parts
from appliance.models.file_identity import FileIdentity, files_of
from appliance.models.hardware import HardwareWatch
from appliance.models.memory_ledger import MemoryLedger, file_key, mapped_weights, measured
from appliance.models.residency import NoRoom, Resident, Room
from appliance.placement.estimate import Correction, Footprint, estimate
from appliance.placement.evictions import evictable
from appliance.placement.memory import Loaded, Memory, memory_of
from appliance.placement.place import MARGIN_BYTES, Placement, Smaller, place, placed_spec
from appliance.placement.place import NoRoom as DoesNotFit
from appliance.types import HardwareReading, ModelInfo, ModelSpec

# A machine whose memory nobody can tell is taken as it is.
FIRST_READING_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 0.05

_log = logging.getLogger(__name__)


class _Known(Struct, frozen=True, kw_only=True):
    """A file whose header was read. smaller: what could be made of it; None where nothing is made here."""

    file: FileIdentity
    facts: ModelFacts
    smaller: Smaller | None


class _Tenant(Struct, frozen=True, kw_only=True):
    """A model that has room. footprint: estimated, and measured once it is loaded. mapped: of it, weights that the
    machine counts as free all the same. since: on the watch's clock, when it was placed, and when it was loaded; None:
    before every reading.
    """

    spec: ModelSpec
    file: FileIdentity
    facts: ModelFacts
    tensor_split: tuple[int, ...]
    footprint: Footprint
    mapped: int
    since: float | None


class Placer:
    """A RoomFinder. Belongs to the event loop.

    quantize_command: what makes a smaller file of the one at this path; the type's name goes behind it. Any thread.
    """

    def __init__(
        self,
        hardware: HardwareWatch,
        ledger: MemoryLedger,
        clock: Callable[[], float],
        margin_bytes: int = MARGIN_BYTES,
        quantize_command: Callable[[str], str | None] = lambda path: None,
    ) -> None:
        self._hardware = hardware
        self._ledger = ledger
        self._clock = clock
        self._margin = margin_bytes
        self._quantize_command = quantize_command
        self._known: dict[str, _Known] = {}
        self._tenants: dict[str, _Tenant] = {}
        self._lacked_at = 0.0

    async def prepare(self, spec: ModelSpec) -> None:
        """Reads the file's header, and waits for the first reading of the machine. What cannot be had is gone without:
        then the worker is the one to say what is wrong.
        """
        identity = FileIdentity.of(spec.path)
        known = self._known.get(spec.path)
        if identity is not None and (known is None or known.file != identity):
            self._known.pop(spec.path, None)
            try:
                self._known[spec.path] = await asyncio.to_thread(self._read, identity, spec.path)
            except (GgufError, OSError) as error:
                _log.warning("model %s is loaded without a plan for its memory: %s", spec.id, error)
        try:
            async with asyncio.timeout(FIRST_READING_SECONDS):
                await self._hardware.first.wait()
                # What a load that failed had taken must not count against the next attempt.
                while self._hardware.read_at < self._lacked_at:  # noqa: ASYNC110
                    await asyncio.sleep(_LOOK_SECONDS)
        except TimeoutError:
            _log.warning("model %s is loaded without a plan for its memory: nobody tells what is free", spec.id)

    def find(self, spec: ModelSpec, residents: Sequence[Resident], leaving: Sequence[Resident]) -> Room | NoRoom:
        """By the newest reading, less what has been promised since."""
        known, reading = self._known.get(spec.path), self._hardware.latest
        if known is None or reading is None:
            return Room(spec=spec)
        memory = self._free(reading, [*residents, *leaving]).plus(self._loaded(leaving))
        loaded = self._loaded(residents)
        correction = self._ledger.correction(_file_key(known.file, spec), spec)

        def answer(loaded: Sequence[Loaded]) -> Placement | str:
            found = self._place(known, spec, memory, loaded, correction)
            return found if isinstance(found, Placement) else found.sentence

        found = answer(loaded)
        if isinstance(found, Placement):
            return Room(spec=placed_spec(spec, found), evict=found.evict, placement=found)
        waits = isinstance(answer([replace(one, busy=False) for one in loaded]), Placement)
        return NoRoom(reason=found, waits=waits)

    def admit(self, name: str, spec: ModelSpec, room: Room) -> None:
        """It is about to be loaded as `find` has just said. spec: as it is configured."""
        if room.placement is None:
            self._tenants.pop(name, None)
            return
        known = self._known[spec.path]
        self._tenants[name] = _Tenant(
            spec=spec,
            file=known.file,
            facts=known.facts,
            tensor_split=room.placement.tensor_split,
            footprint=room.placement.footprint,
            mapped=0,
            since=self._clock(),
        )

    def loaded(self, name: str, info: ModelInfo) -> None:
        """It has been; what it took is remembered for the next time."""
        tenant, use, reading = self._tenants.get(name), info.memory, self._hardware.latest
        if tenant is None or use is None or reading is None:
            return
        need = estimate(tenant.facts, tenant.spec)
        taken = measured(use, need, info.size_bytes, tuple(gpu.uuid for gpu in reading.gpus))
        self._ledger.note(_file_key(tenant.file, tenant.spec), tenant.spec, need, tenant.tensor_split, taken)
        mapped = mapped_weights(use, info.size_bytes)
        since = None if tenant.since is None else self._clock()
        self._tenants[name] = replace(tenant, footprint=taken, mapped=mapped, since=since)

    def resumed(self, name: str, spec: ModelSpec, placed: ModelSpec, info: ModelInfo) -> None:
        """Every reading of the machine has it in it; `loaded` will say what it takes."""
        if (known := self._known.get(spec.path)) is None:
            return
        self._tenants[name] = _Tenant(
            spec=spec,
            file=known.file,
            facts=known.facts,
            # As the placement had it: whole numbers.
            tensor_split=tuple(round(share) for share in placed.tensor_split),
            footprint=Footprint(0, ()),
            mapped=0,
            since=None,
        )

    def lacked(self, name: str, device_bytes: int) -> None:
        """A load of it lacked memory and has ended; from now on so much more is expected of each GPU."""
        self._lacked_at = self._clock()
        tenant = self._tenants.pop(name, None)
        if tenant is not None and device_bytes:
            self._ledger.note_lack(_file_key(tenant.file, tenant.spec), tenant.spec, device_bytes)

    def ways(self, spec: ModelSpec, residents: Sequence[Resident], lack_bytes: int) -> tuple[str, ...]:
        """By the newest reading: what would make it take so much less in host memory."""
        known, reading = self._known.get(spec.path), self._hardware.latest
        if known is None or reading is None:
            return ()
        memory, loaded = self._free(reading, residents), self._loaded(residents)
        correction = self._ledger.correction(_file_key(known.file, spec), spec)
        found = self._place(known, spec, memory, loaded, correction)
        if isinstance(found, Placement):
            # It should have fitted: what was not there after all is counted as if it took that much more.
            free = memory.plus(evictable(loaded))
            spare = free.host.available_bytes - self._margin - found.footprint.host
            devices = max((device.free_bytes for device in free.devices), default=0)
            more = Correction(correction.host + spare + max(lack_bytes, 1), correction.device + devices)
            found = self._place(known, spec, memory, loaded, more)
        return () if isinstance(found, Placement) else tuple(way.words for way in found.ways)

    def gone(self, name: str) -> None:
        """It has no worker any more."""
        self._tenants.pop(name, None)

    def memory(self) -> Memory | None:
        """By the newest reading."""
        return None if self._hardware.latest is None else memory_of(self._hardware.latest)

    def footprints(self) -> Mapping[str, Footprint]:
        """What each model takes, by the instance's name."""
        return {name: tenant.footprint for name, tenant in self._tenants.items()}

    def _read(self, identity: FileIdentity, path: str) -> _Known:
        """In a thread. Raises GgufError and OSError."""
        header, command = read_model(Path(path)), self._quantize_command(path)
        smaller = None if command is None else Smaller(models=smaller_models(header), command=command)
        return _Known(file=identity, facts=facts_of(header), smaller=smaller)

    def _place(
        self, known: _Known, spec: ModelSpec, memory: Memory, loaded: Sequence[Loaded], correction: Correction
    ) -> Placement | DoesNotFit:
        return place(
            known.facts,
            spec,
            memory,
            loaded,
            correction=correction,
            margin_bytes=self._margin,
            smaller=known.smaller,
        )

    def _free(self, reading: HardwareReading, residents: Sequence[Resident]) -> Memory:
        memory = memory_of(reading)
        for resident in residents:
            if (tenant := self._tenants.get(resident.name)) is not None:
                # Mapped weights are page cache: free to whoever asks the kernel, and needed all the same.
                late = tenant.since is not None and tenant.since >= self._hardware.read_at
                memory = memory.less(tenant.footprint if late else Footprint(tenant.mapped, ()))
        return memory

    def _loaded(self, residents: Sequence[Resident]) -> list[Loaded]:
        return [
            Loaded(
                model=resident.name,
                footprint=self._tenants[resident.name].footprint,
                pinned=resident.pinned,
                busy=resident.busy,
                last_used=resident.used_at,
            )
            for resident in residents
            if resident.name in self._tenants
        ]


def read_model(path: Path) -> GgufHeader:
    """The headers of all files of a model as one. Blocking. Raises GgufError and OSError."""
    return join_parts([_header(file) for file in files_of(path)])


def _header(path: Path) -> GgufHeader:
    with path.open("rb") as file:
        return read_header(file)


def _file_key(identity: FileIdentity, spec: ModelSpec) -> str:
    return file_key(spec.path, identity.bytes)
