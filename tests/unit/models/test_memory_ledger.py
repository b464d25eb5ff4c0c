"""appliance.models.memory_ledger"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from appliance.models.memory_ledger import (
    FILES_MAX,
    SETTINGS_PER_FILE_MAX,
    MemoryLedger,
    file_key,
    measured,
    settings_key,
)
from appliance.placement.estimate import Correction, Footprint, corrected, estimate
from appliance.placement.layout import Layout
from appliance.types import DeviceBytes, EngineBuffer, MemoryUse, ModelSpec
from tests.unit.placement.making import MIB, facts, spec

FILE = file_key("/m.gguf", 5)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "memory.json"


def note(ledger: MemoryLedger, wanted: ModelSpec, host: int, *devices: int, file: str = FILE) -> None:
    """A load that took so many bytes beyond its estimate."""
    need = estimate(facts(), wanted)
    split = tuple(4 for _ in devices)
    expected = Layout(need).footprint(split)
    taken = Footprint(expected.host + host, tuple(map(sum, zip(expected.devices, devices, strict=True))))
    ledger.note(file, wanted, need, split, taken)


def test_what_was_measured_corrects_the_next_estimate(path: Path) -> None:
    ledger = MemoryLedger(path)
    assert ledger.correction(FILE, spec()) == Correction(0, 0)
    note(ledger, spec(), -5 * MIB, 30 * MIB, 20 * MIB)
    assert ledger.correction(FILE, spec()) == Correction(-5 * MIB, 30 * MIB)
    need = corrected(estimate(facts(), spec()), ledger.correction(FILE, spec()))
    plain = estimate(facts(), spec())
    split = (4, 4)
    assert Layout(need).footprint(split).host == Layout(plain).footprint(split).host - 5 * MIB
    assert Layout(need).footprint(split).devices[0] == Layout(plain).footprint(split).devices[0] + 30 * MIB


def test_other_settings_teach_what_they_took_too_much(path: Path) -> None:
    ledger = MemoryLedger(path)
    note(ledger, spec(n_ctx=4096), -5 * MIB)
    assert ledger.correction(FILE, spec()) == Correction(0, 0)
    note(ledger, spec(n_ctx=2048), 7 * MIB, 9 * MIB)
    assert ledger.correction(FILE, spec()) == Correction(7 * MIB, 9 * MIB)
    assert ledger.correction("another", spec()) == Correction(0, 0)


def test_it_survives_the_file(path: Path) -> None:
    ledger = MemoryLedger(path)
    asyncio.run(ledger.save_aside())
    assert not path.exists()
    note(ledger, spec(), MIB)
    asyncio.run(ledger.save_aside())
    assert path.stat().st_mode & 0o777 == 0o600
    assert MemoryLedger(path).correction(FILE, spec()) == Correction(MIB, 0)


async def test_a_file_that_cannot_be_written_is_tried_again(path: Path) -> None:
    ledger = MemoryLedger(path.parent / "missing" / path.name)
    note(ledger, spec(), MIB)
    await ledger.save_aside()
    (path.parent / "missing").mkdir()
    await ledger.save_aside()
    assert MemoryLedger(path.parent / "missing" / path.name).correction(FILE, spec()).host == MIB


@pytest.mark.parametrize("content", [b"", b"[]", b'{"models":{"a":{"b":{"host":1e99}}}}', b"[" * 100_000])
def test_a_damaged_file_is_begun_anew(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o600)
    assert MemoryLedger(path).correction(FILE, spec()) == Correction(0, 0)


def test_it_is_bounded_and_forgets_the_oldest(path: Path) -> None:
    ledger = MemoryLedger(path)
    for index in range(SETTINGS_PER_FILE_MAX + 1):
        note(ledger, spec(n_ctx=256 * (index + 1)), -index * MIB)
    assert ledger.correction(FILE, spec(n_ctx=256)) == Correction(0, 0)
    assert ledger.correction(FILE, spec(n_ctx=512)) == Correction(-MIB, 0)
    for index in range(FILES_MAX):
        note(ledger, spec(), MIB, file=str(index))
    assert ledger.correction(FILE, spec(n_ctx=512)) == Correction(0, 0)


def test_settings_are_those_that_decide_about_memory() -> None:
    assert settings_key(spec()) == settings_key(spec(preload=True, aliases=("a",)))
    assert len({settings_key(spec(**{name: value})) for name, value in _CHANGES.items()} | {settings_key(spec())}) == 6


_CHANGES = {"n_ctx": 512, "n_gpu_layers": 3, "kv": "split", "cache_type_k": "q8_0", "tensor_split": (1.0,)}


def test_a_file_is_known_by_its_content_where_that_is_known() -> None:
    assert file_key("/a", 1, "ff") == file_key("/b", 1, "ff") != file_key("/a", 1) != file_key("/a", 2)


def buffer(device: str, kind: str, mib: int) -> EngineBuffer:
    return EngineBuffer(device=device, kind=kind, bytes=mib * MIB)  # type: ignore[arg-type]


def test_mapped_weights_that_were_copied_count_once() -> None:
    need = estimate(facts(), spec(preempt_host_mib=0))
    buffers = (buffer("CPU_Mapped", "model", 250), buffer("CPU_REPACK", "model", 200), buffer("CPU", "KV", 96))
    use = MemoryUse(resident_bytes=900 * MIB, process_bytes=80 * MIB, buffers=buffers)
    assert measured(use, need, 260 * MIB, ()) == Footprint((200 + 60 + 96 + 80) * MIB + need.host_work + need.later)


def test_gpus_count_by_the_driver_and_else_by_the_engine() -> None:
    need = estimate(facts(), spec(preempt_host_mib=0))
    use = MemoryUse(
        resident_bytes=0,
        process_bytes=10 * MIB,
        buffers=(
            buffer("CUDA0", "model", 300),
            buffer("CUDA1", "model", 200),
            buffer("CUDA11", "KV", 1),
            buffer("CUDA_Host", "compute", 20),
        ),
        devices=(DeviceBytes(uuid="a", bytes=999 * MIB),),
    )
    found = measured(use, need, 500 * MIB, ("a", "b", "c"))
    assert found == Footprint(30 * MIB + need.later, (999 * MIB, 200 * MIB + need.device_process, 0))
