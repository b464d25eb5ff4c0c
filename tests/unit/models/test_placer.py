"""appliance.models.placer: real files, a machine that a test describes."""

from __future__ import annotations

import asyncio
import re
import shutil
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec.structs import replace

from appliance.gguf.facts import facts_of
from appliance.models import placer as placer_module
from appliance.models.file_identity import FileIdentity, files_of
from appliance.models.hardware import HardwareWatch
from appliance.models.launcher import SpawnLauncher
from appliance.models.memory_ledger import MemoryLedger
from appliance.models.placer import Placer, read_model
from appliance.models.residency import NoRoom, Resident, Room
from appliance.placement.estimate import MIB
from appliance.types import EngineBuffer, GpuReading, HardwareReading, HostReading, MemoryUse, ModelSpec
from tests.fakes.scripted_worker import INFO
from tests.models.random_weights import build_random
from tests.models.raw_gguf import item, model, string

GIB = 1024 * MIB


def machine(host: int, *gpus: int) -> HardwareReading:
    """With so many bytes free."""
    return HardwareReading(
        host=HostReading(total_bytes=2**40, available_bytes=host, cpu_busy=0.0),
        gpus=tuple(
            GpuReading(uuid=f"gpu{index}", name="GPU", total_bytes=80 * GIB, free_bytes=free, used_bytes=0)
            for index, free in enumerate(gpus)
        ),
    )


@dataclass
class Bench:
    placer: Placer
    watch: HardwareWatch
    ledger: MemoryLedger
    spec: ModelSpec
    now: float = 100.0

    def read(self, reading: HardwareReading) -> None:
        self.now += 1
        self.watch.latest, self.watch.read_at = reading, self.now
        self.watch.first.set()

    def find(self, *residents: Resident, leaving: Sequence[Resident] = ()) -> Room | NoRoom:
        return self.placer.find(self.spec, residents, leaving)

    def place(self, name: str) -> Resident:
        """One more of it, loading."""
        room = self.find()
        assert isinstance(room, Room)
        self.now += 1
        self.placer.admit(name, self.spec, room)
        return Resident(name=name, spec=self.spec, busy=True, pinned=False, used_at=self.now)


@pytest.fixture
async def bench(tmp_path: Path, random_gguf: Path) -> Bench:
    watch, ledger = HardwareWatch(SpawnLauncher()), MemoryLedger(tmp_path / "memory.json")
    spec = ModelSpec(id="m", path=str(random_gguf), n_ctx=65_536)

    def command(path: str) -> str:
        return f"appliance models quantize {Path(path).stem} --to"

    made = Bench(Placer(watch, ledger, lambda: made.now, quantize_command=command), watch, ledger, spec)
    made.read(machine(64 * GIB))
    await made.placer.prepare(spec)
    return made


def test_it_goes_to_the_gpu_where_there_is_one(bench: Bench) -> None:
    assert bench.find() == Room(spec=replace(bench.spec, n_gpu_layers=0), placement=bench.find().placement)  # type: ignore[union-attr]
    bench.read(machine(64 * GIB, 40 * GIB))
    room = bench.find()
    assert isinstance(room, Room)
    assert isinstance(room.spec.n_gpu_layers, int) and room.spec.n_gpu_layers > 0


def test_what_does_not_fit_is_refused_with_what_would_help(bench: Bench) -> None:
    bench.read(machine(GIB + 10 * MIB))
    found = bench.find()
    assert isinstance(found, NoRoom) and not found.waits
    assert "needs about" in found.reason
    assert "quantize" not in found.reason, "no file of this model is small enough"


def test_a_smaller_file_is_advised_where_that_is_enough(bench: Bench) -> None:
    short = replace(bench.spec, n_ctx=256)
    for room in range(GIB, GIB + GIB // 2, MIB):
        bench.read(machine(room))
        found = bench.placer.find(short, [], [])
        if isinstance(found, NoRoom) and "quantize" in found.reason:
            assert re.search(
                r"q5_k_m weights, about .* GiB: `appliance models quantize random --to q5_k_m`", found.reason
            )
            return
    raise AssertionError("never advised")


def test_what_is_loading_is_reckoned_with_and_what_was_read_since_is_not_counted_twice(bench: Bench) -> None:
    first = bench.place("m")
    taken = bench.placer.footprints()["m"].host
    bench.read(machine(GIB + taken + taken // 2))
    bench.placer.admit("m", bench.spec, bench.find())  # type: ignore[arg-type]
    bench.now += 1
    found = bench.find(first)
    assert isinstance(found, NoRoom) and found.waits, "the reading is from before the first one was placed"
    bench.read(machine(GIB + taken + taken // 2))
    assert isinstance(bench.find(first), Room)


def test_an_idle_model_leaves_and_a_busy_one_is_waited_for(bench: Bench) -> None:
    busy = bench.place("m")
    bench.read(machine(GIB + 10 * MIB))
    found = bench.find(busy)
    assert isinstance(found, NoRoom) and found.waits
    idle = replace(busy, busy=False)
    room = bench.find(idle)
    assert isinstance(room, Room) and room.evict == ("m",)
    assert isinstance(bench.find(replace(idle, pinned=True)), NoRoom)
    # One that leaves in any case frees its memory too.
    assert isinstance(bench.find(leaving=[idle]), Room)
    bench.placer.gone("m")
    assert isinstance(bench.find(idle), NoRoom)


def test_what_a_load_took_counts_from_then_on(bench: Bench) -> None:
    bench.place("m")
    expected = bench.placer.footprints()["m"].host
    use = MemoryUse(
        resident_bytes=0,
        process_bytes=5 * GIB,
        buffers=(EngineBuffer(device="CPU_Mapped", kind="model", bytes=7 * MIB),),
    )
    bench.placer.loaded("m", replace(INFO, memory=use, size_bytes=7 * MIB))
    assert bench.placer.footprints()["m"].host > 5 * GIB > expected
    bench.placer.gone("m")
    bench.read(machine(6 * GIB))
    assert isinstance(bench.find(), NoRoom), "the ledger knows better than the estimate"


async def test_what_cannot_be_read_is_loaded_without_a_plan(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = replace(bench.spec, path="/nowhere.gguf")
    await bench.placer.prepare(odd)
    assert bench.placer.find(odd, [], []) == Room(spec=odd)
    monkeypatch.setattr(placer_module, "FIRST_READING_SECONDS", 0.01)
    bench.watch.first, bench.watch.latest = asyncio.Event(), None
    await bench.placer.prepare(bench.spec)
    assert bench.find() == Room(spec=bench.spec)
    assert facts_of(read_model(Path(bench.spec.path))).architecture == "llama"


@pytest.mark.parametrize("count", [string("many"), struct.pack("<IQ", 5, 2) + bytes(8)], ids=["text", "array"])
async def test_a_header_that_lies_about_its_parts_is_loaded_without_a_plan(
    bench: Bench, tmp_path: Path, count: bytes
) -> None:
    path = tmp_path / "m.gguf"
    kind = 8 if count.endswith(b"many") else 9
    path.write_bytes(model(metadata=(item("split.count", kind, count),)))
    odd = replace(bench.spec, path=str(path))
    await bench.placer.prepare(odd)
    assert bench.placer.find(odd, [], []) == Room(spec=odd)


def test_a_model_in_several_files_is_one(tmp_path: Path) -> None:
    build_random(tmp_path / "whole.gguf")
    build_random(tmp_path / "m.gguf", tensors_per_file=5)
    parts = sorted(tmp_path.glob("m-*.gguf"))
    assert len(parts) > 1
    assert files_of(parts[0]) == parts
    whole, split = facts_of(read_model(tmp_path / "whole.gguf")), facts_of(read_model(parts[0]))
    assert (split.weight_bytes, split.layers) == (whole.weight_bytes, whole.layers)
    before = FileIdentity.of(str(parts[0]))
    assert before is not None and before.bytes == sum(part.stat().st_size for part in parts)
    parts[1].touch()
    assert FileIdentity.of(str(parts[0])) not in (None, before)
    parts[1].unlink()
    assert FileIdentity.of(str(parts[0])) is None
    assert files_of(Path("m-00009-of-00002.gguf")) == [Path("m-00009-of-00002.gguf")]


async def test_a_file_that_is_replaced_while_its_model_loads_changes_nothing_about_that_load(
    bench: Bench, tmp_path: Path
) -> None:
    path = tmp_path / "m.gguf"
    shutil.copyfile(bench.spec.path, path)
    bench.spec = replace(bench.spec, path=str(path))
    await bench.placer.prepare(bench.spec)
    bench.place("m")
    path.write_bytes(b"no model")
    await bench.placer.prepare(bench.spec)
    use = MemoryUse(resident_bytes=0, process_bytes=5 * GIB)
    bench.placer.loaded("m", replace(INFO, memory=use))
    assert bench.placer.footprints()["m"].host >= 5 * GIB


async def test_of_a_gpu_that_lacked_memory_more_is_expected_until_a_load_is_measured(bench: Bench) -> None:
    bench.read(machine(64 * GIB, 40 * GIB))
    first = bench.find()
    assert isinstance(first, Room)
    bench.placer.admit("m", bench.spec, first)
    bench.placer.lacked("m", 40 * GIB)
    assert bench.placer.footprints() == {}
    second = bench.find()
    assert isinstance(second, Room) and second.spec.n_gpu_layers == 0
    bench.placer.admit("m", bench.spec, second)
    bench.placer.loaded("m", replace(INFO, memory=MemoryUse(resident_bytes=0, process_bytes=GIB)))
    bench.placer.gone("m")
    third = bench.find()
    assert isinstance(third, Room) and third.spec.n_gpu_layers == first.spec.n_gpu_layers


async def test_after_a_load_that_lacked_memory_only_a_newer_reading_counts(bench: Bench) -> None:
    bench.place("m")
    bench.now += 1
    bench.placer.lacked("m", 0)
    async with asyncio.TaskGroup() as group:
        preparing = group.create_task(bench.placer.prepare(bench.spec))
        await asyncio.sleep(0.1)
        assert not preparing.done()
        bench.read(machine(64 * GIB))


def test_what_takes_less_is_told_where_the_estimate_had_said_that_it_fits(bench: Bench) -> None:
    assert isinstance(bench.find(), Room)
    ways = bench.placer.ways(bench.spec, [], 100 * MIB)
    assert ways and "q8_0" in " ".join(ways) and "n_ctx" in " ".join(ways)
    assert bench.placer.ways(replace(bench.spec, path="/elsewhere"), [], 0) == ()


def test_a_model_that_was_there_before_us_is_not_counted_twice(bench: Bench) -> None:
    # Free beside it: enough for one more.
    bench.read(machine(4 * GIB))
    room = bench.find()
    assert isinstance(room, Room)
    bench.now += 1
    bench.placer.resumed("kept", bench.spec, room.spec, INFO)
    taken = MemoryUse(
        buffers=(EngineBuffer(kind="KV", device="CPU", bytes=GIB),), resident_bytes=GIB, process_bytes=GIB
    )
    bench.placer.loaded("kept", replace(INFO, memory=taken))
    assert bench.placer.footprints()["kept"].host > 2 * GIB
    found = bench.find(Resident(name="kept", spec=bench.spec, busy=False, pinned=False, used_at=0.0))
    assert isinstance(found, Room) and not found.evict, "no reading has come since"


async def test_a_model_that_was_there_before_us_counts_as_what_it_took(bench: Bench) -> None:
    """It is in every reading already, and may leave for another one."""
    room = bench.find()
    assert isinstance(room, Room)
    bench.placer.resumed("kept", bench.spec, room.spec, INFO)
    taken = MemoryUse(
        buffers=(EngineBuffer(kind="KV", device="CPU", bytes=3 * GIB),), resident_bytes=GIB, process_bytes=GIB
    )
    bench.placer.loaded("kept", replace(INFO, memory=taken))
    assert bench.placer.footprints()["kept"].host > 3 * GIB
    bench.read(machine(2 * GIB))
    there = Resident(name="kept", spec=bench.spec, busy=False, pinned=False, used_at=0.0)
    found = bench.find(there)
    assert isinstance(found, Room) and found.evict == ("kept",)
    bench.placer.gone("kept")
    assert isinstance(bench.find(), NoRoom)
