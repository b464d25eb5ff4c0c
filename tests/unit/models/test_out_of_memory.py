"""Loads that lack memory, with scripted workers: what is tried, what is said, and that nothing hangs."""

from __future__ import annotations

import logging

import pytest
from msgspec.structs import replace

from appliance.config import WorkerLimits
from appliance.errors import RequestError
from appliance.models.residency import Room, RoomEnough
from appliance.models.snapshot import InstanceState
from appliance.types import ModelSpec
from tests.unit.models.test_residency import READY, OpenHouse, open_house, spec

__all__ = ["open_house"]


class OneGpu(RoomEnough):
    """Layers go to the GPU as far as it seems to have room, 10 for 512 MiB; each model has 40."""

    def __init__(self) -> None:
        self.lacking: list[int] = []

    def find(self, spec: ModelSpec, residents: object, leaving: object) -> Room:
        return Room(spec=replace(spec, n_gpu_layers=max(0, 40 - sum(self.lacking) // (512 * 2**20) * 10)))

    def lacked(self, name: str, device_bytes: int) -> None:
        self.lacking.append(device_bytes)

    def ways(self, spec: ModelSpec, residents: object, lack_bytes: int) -> tuple[str, ...]:
        return (f"n_ctx {spec.n_ctx // 2}", f"{lack_bytes} bytes fewer")


async def test_it_runs_with_smaller_passes_and_says_so(open_house: OpenHouse, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "appliance.models.loading")
    house = await open_house(spec("a"), load="memory:compute:CPU:n_ubatch:128")
    assert await house.ask("a") == "hello"
    snapshot = house.router.snapshots()["a"]
    assert (snapshot.state, snapshot.reason) == (READY, "it runs with n_ubatch 128 for want of memory")
    assert snapshot.restarts == 0
    said = [
        record.getMessage()
        for record in caplog.records
        if "again" in record.message or "with n_ubatch" in record.message
    ]
    assert len(said) == 4 and "no memory; it is tried again with less" in said[0] and "n_ubatch 256" in said[1]
    # The next load begins with what is configured.
    instance = house.router.registry.instance("a")
    assert instance is not None
    await instance.unload(1)
    assert house.router.snapshots()["a"].reason is None


async def test_fewer_layers_go_to_a_gpu_that_had_less_room_than_it_seemed(open_house: OpenHouse) -> None:
    gpu = OneGpu()
    house = await open_house(spec("a"), finder=gpu, load="memory:weights:CUDA0:n_gpu_layers:15")
    assert await house.ask("a") == "hello"
    assert house.router.snapshots()["a"].reason == "it runs with only 10 layers on GPUs for want of memory"
    assert [lacking // 2**20 for lacking in gpu.lacking] == [512, 1024]


async def test_where_nothing_smaller_helps_it_fails_with_what_would(open_house: OpenHouse) -> None:
    house = await open_house(spec("a"), finder=OneGpu(), load="memory:compute:CPU:n_ctx:0")
    with pytest.raises(RequestError) as caught:
        await house.ask("a")
    assert caught.value.code == "model_unavailable"
    assert "tried with n_ubatch 256, then n_ubatch 128" in caught.value.message
    assert "n_ctx 4096; or 1048576 bytes fewer" in caught.value.message
    assert house.state("a") is InstanceState.FAILED


async def test_cells_are_never_fewer_than_configured(open_house: OpenHouse) -> None:
    house = await open_house(spec("a"), load="memory:cache:CPU:n_ctx:0")
    with pytest.raises(RequestError, match="shorter n_ctx or a smaller model"):
        await house.ask("a")


async def test_a_worker_that_is_killed_while_it_loads_may_have_met_the_kernel(open_house: OpenHouse) -> None:
    house = await open_house(spec("a"), finder=OneGpu(), load="killed", worker=WorkerLimits(backoff_seconds_max=1))
    with pytest.raises(RequestError, match=r"signal 9.*kernel's log.*n_ctx 4096"):
        await house.ask("a")


async def test_one_that_is_unloaded_while_room_is_looked_for_does_not_load(open_house: OpenHouse) -> None:
    class Slow(RoomEnough):
        async def prepare(self, spec: ModelSpec) -> None:
            instance = house.router.registry.instance("a")
            assert instance is not None
            self.leaving = instance.unload(5)

    finder = Slow()
    house = await open_house(spec("a"), finder=finder)
    instance = house.router.registry.instance("a")
    assert instance is not None
    instance.load()
    await house.until(lambda: hasattr(finder, "leaving") and finder.leaving.done())
    assert house.state("a") is InstanceState.STOPPED and house.loaded() == set()
