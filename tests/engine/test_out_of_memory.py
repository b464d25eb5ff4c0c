"""Loads that the kernel gives too little address space: real workers, real refusals of llama.cpp."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from appliance.alias_spec import ModelsFile
from appliance.config import RequestLimits
from appliance.models.instance import ModelInstance
from appliance.models.launcher import SpawnLauncher
from appliance.models.registry import Means
from appliance.models.router import Router
from appliance.models.snapshot import InstanceState
from appliance.types import ModelSpec

# Without flash attention a pass of n tokens takes 0.65 MiB a token here, and everything else 400 MiB.
SETTINGS = {"n_ctx": 16_384, "flash_attn": "off", "n_ubatch": 1024, "n_gpu_layers": 0}


async def loaded(path: Path, beyond_mib: int) -> tuple[InstanceState, str | None]:
    """Once the first attempt has come to its end; a model that is ready has been asked for a token."""
    spec = ModelSpec(id="m", path=str(path), **SETTINGS)  # type: ignore[arg-type]
    launcher = SpawnLauncher((sys.executable, "-m", "tests.engine.little_memory", "--beyond", str(beyond_mib)))
    router = Router(ModelsFile(models=(spec,)), RequestLimits(), Means(launcher))
    router.start()
    instance = router.registry.instance("m")
    assert isinstance(instance, ModelInstance)
    instance.load()
    try:
        async with asyncio.timeout(60):
            await instance.settled.wait()
        await instance.probe(20)
        return instance.state, instance.snapshot().reason
    finally:
        await router.close(0)


@pytest.mark.slow
async def test_a_model_whose_passes_are_too_large_runs_with_smaller_ones(random_gguf: Path) -> None:
    assert await loaded(random_gguf, 600) == (InstanceState.READY, "it runs with n_ubatch 256 for want of memory")


async def test_cells_that_do_not_fit_are_the_operators_matter(random_gguf: Path) -> None:
    state, reason = await loaded(random_gguf, 300)
    assert state is InstanceState.FAILED and reason is not None
    assert "failed to allocate CPU buffer" in reason and "tried" not in reason and "shorter n_ctx" in reason
