"""Models with smaller weights, through a real worker: what they become, and what becomes of a worker that cannot."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from appliance.config import WorkerLimits
from appliance.errors import LoadCrash, LoadError
from appliance.gguf.file_types import KNOWN, file_type
from appliance.gguf.header import GgufHeader, read_header
from appliance.gguf.quantised import quantised
from appliance.models.inspection import inspect_model
from appliance.models.launcher import SpawnLauncher
from appliance.models.quantizing import quantize_model
from appliance.types import QuantizeOrder
from tests.models.hostile import build_unknown_architecture
from tests.models.shapes import build_shapes
from tests.waiting import until


def header(path: Path) -> GgufHeader:
    with path.open("rb") as file:
        return read_header(file)


def order(source: Path, to: str, **changes: object) -> QuantizeOrder:
    """With an empty target beside the source."""
    target = source.with_name("new.gguf")
    target.write_bytes(b"")
    fields: dict[str, object] = {"requantize": False, "threads": 1, "bytes_max": 2**30}
    number = file_type(to).number
    return QuantizeOrder(source=str(source), target=str(target), file_type=number, **(fields | changes))  # type: ignore[arg-type]


async def quantize(asked: QuantizeOrder, progress: Callable[[int], None] = lambda count: None) -> None:
    await quantize_model(asked, SpawnLauncher(), WorkerLimits(), progress)


async def test_a_smaller_model_is_as_large_as_foreseen_and_works(random_gguf: Path, tmp_path: Path) -> None:
    source = tmp_path / "m.gguf"
    source.symlink_to(random_gguf)
    written: list[int] = []
    asked = order(source, "q4_k_m", threads="auto")
    await quantize(asked, written.append)
    found, foreseen = header(Path(asked.target)), quantised(header(source), file_type("q4_k_m"))
    assert {tensor.name: tensor.type for tensor in found.tensors} == (
        {tensor.name: tensor.type for tensor in foreseen.tensors}
    )
    assert 0 <= foreseen.file_bytes - found.file_bytes < 1024
    assert written == sorted(written)
    assert written[-1] == found.file_bytes
    info = await inspect_model(Path(asked.target), SpawnLauncher(), WorkerLimits(), size_bytes=2**20)
    assert info.architecture == "llama"


@pytest.mark.slow
@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"kv_heads": 8},
        {"tied": True, "layers": 9},
        {"experts": 8},
        {"experts": 4, "kv_heads": 8, "layers": 13},
        {"layers": 80},
        {"odd": True},
        {"architecture": "qwen2", "tied": True},
        {"architecture": "falcon", "layers": 32},
    ],
    ids=str,
)
async def test_llama_cpp_chooses_the_types_that_were_foreseen(tmp_path: Path, shape: dict[str, object]) -> None:
    source = tmp_path / "m.gguf"
    build_shapes(source, **shape)  # type: ignore[arg-type]
    for to in KNOWN.split(", "):
        asked = order(source, to)
        await quantize(asked)
        found, foreseen = header(Path(asked.target)), quantised(header(source), file_type(to))
        assert {tensor.name: tensor.type.name for tensor in found.tensors} == (
            {tensor.name: tensor.type.name for tensor in foreseen.tensors}
        ), to


async def refusal(asked: QuantizeOrder) -> str:
    with pytest.raises(LoadError) as caught:
        await quantize(asked)
    assert not isinstance(caught.value, LoadCrash)
    return str(caught.value)


@pytest.mark.slow
async def test_what_the_quantiser_does_not_take_has_a_reason(tmp_path: Path) -> None:
    build_unknown_architecture(tmp_path / "m.gguf")
    assert "unknown model architecture: 'warpdrive'" in await refusal(order(tmp_path / "m.gguf", "q8_0"))
    build_shapes(tmp_path / "s.gguf", layers=2)
    first = order(tmp_path / "s.gguf", "q4_0")
    await quantize(first)
    again = tmp_path / "again.gguf"
    shutil.move(first.target, again)
    assert "requantizing from type q4_0 is disabled" in await refusal(order(again, "q3_k_s"))
    await quantize(order(again, "q3_k_s", requantize=True))
    assert "would become larger than 20000 bytes" in await refusal(order(tmp_path / "s.gguf", "q8_0", bytes_max=20_000))


def workers() -> list[psutil.Process]:
    return psutil.Process().children()


async def stopped_worker(before: list[psutil.Process]) -> psutil.Process:
    """The worker that has just been started, which goes no further."""
    await until(lambda: set(workers()) - set(before))
    (started,) = set(workers()) - set(before)
    started.suspend()
    return started


async def test_a_worker_that_dies_and_one_that_nobody_waits_for(random_gguf: Path, tmp_path: Path) -> None:
    source = tmp_path / "m.gguf"
    source.symlink_to(random_gguf)
    before = workers()
    task = asyncio.get_running_loop().create_task(quantize(order(source, "iq4_xs")))
    os.kill((await stopped_worker(before)).pid, signal.SIGKILL)
    with pytest.raises(LoadCrash, match="signal 9"):
        await task
    task = asyncio.get_running_loop().create_task(quantize(order(source, "iq4_xs")))
    await stopped_worker(before)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert set(workers()) <= set(before)


@pytest.mark.slow
async def test_a_worker_that_writes_nothing_is_stuck(random_gguf: Path, tmp_path: Path) -> None:
    source = tmp_path / "m.gguf"
    source.symlink_to(random_gguf)
    with pytest.raises(LoadCrash, match="exit status 1"):
        await quantize_model(
            order(source, "iq4_xs"), SpawnLauncher(), WorkerLimits(quantize_stall_seconds=0.01), lambda count: None
        )
