"""What a loaded model says it takes, beside what was estimated from its header: plain, windowed, recurrent, hybrid."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appliance.gguf.facts import facts_of
from appliance.gguf.header import read_header
from appliance.models.memory_ledger import measured
from appliance.placement.estimate import MIB, MemoryEstimate, estimate
from appliance.types import MemoryUse, ModelInfo, ModelSpec
from tests.engine.client import WorkerClient
from tests.engine.conftest import recite_spec
from tests.models import build_random
from tests.models.other_memories import build_hybrid, build_recurrent, build_sliding_window
from tests.models.pooled import PooledModel, build_bert, build_causal

BUILDERS: dict[str, Callable[[Path], None]] = {
    "plain": build_random,
    "window": build_sliding_window,
    "recurrent": build_recurrent,
    "hybrid": build_hybrid,
}
SETTINGS: tuple[dict[str, Any], ...] = (
    {"n_ctx": 8192},
    {"n_ctx": 4096, "parallel": 3, "kv": "split", "n_ubatch": 128},
    {"n_ctx": 16_384, "flash_attn": "off", "cache_type_k": "q8_0", "kv": "unified"},
)


def loaded(spec: ModelSpec) -> tuple[ModelInfo, MemoryUse, MemoryEstimate]:
    with WorkerClient() as client:
        info = client.load(spec)
    with Path(spec.path).open("rb") as file:
        need = estimate(facts_of(read_header(file)), spec)
    assert info.memory is not None
    return info, info.memory, need


def total(use: MemoryUse, *kinds: str) -> int:
    return sum(buffer.bytes for buffer in use.buffers if buffer.kind in kinds)


@pytest.mark.parametrize(
    "settings", [SETTINGS[0], *(pytest.param(each, marks=pytest.mark.slow) for each in SETTINGS[1:])], ids=str
)
@pytest.mark.parametrize("kind", BUILDERS)
def test_the_estimate_is_what_the_engine_allocates(tmp_path: Path, kind: str, settings: dict[str, Any]) -> None:
    BUILDERS[kind](tmp_path / "model.gguf")
    info, use, need = loaded(recite_spec(tmp_path / "model.gguf", **settings))
    # llama.cpp tells hundredths of a MiB.
    near = 0.02 * MIB * len(use.buffers)
    assert total(use, "KV", "RS") == pytest.approx(need.cache, abs=near)
    assert total(use, "output") == pytest.approx(need.output_buffer, abs=near)
    assert info.size_bytes == need.weights
    # A tiny model's small vectors, which the estimate leaves out, weigh more than a real one's.
    assert total(use, "compute") == pytest.approx(need.compute, rel=0.15, abs=near)
    assert total(use, "model", "KV", "RS", "output", "compute") == pytest.approx(need.buffers, rel=0.1)


def test_a_worker_measures_itself(recite_gguf: Path) -> None:
    info, use, need = loaded(recite_spec(recite_gguf))
    assert use.devices == ()
    assert 20 * MIB < use.process_bytes < use.resident_bytes < 300 * MIB
    taken = measured(use, need, info.size_bytes, ())
    assert taken.host - need.preempted - need.host_work == pytest.approx(need.buffers + use.process_bytes, rel=0.1)


@pytest.mark.slow
def test_no_layer_on_a_gpu_and_shares_of_gpus_that_are_not_there_load_all_the_same(recite_gguf: Path) -> None:
    for changes in ({"n_gpu_layers": 0}, {"tensor_split": (0.0, 1.0)}, {"tensor_split": (1.0, 1.0)}):
        info, _, _ = loaded(recite_spec(recite_gguf, **changes))
        assert info.gpu_layers == 0


@pytest.mark.parametrize("build", [build_bert, build_causal], ids=["bert", "causal"])
def test_the_estimate_of_a_model_that_pools_is_what_the_engine_allocates(
    tmp_path: Path, build: Callable[..., PooledModel]
) -> None:
    build(tmp_path / "model.gguf")
    info, use, need = loaded(recite_spec(tmp_path / "model.gguf", n_ctx=1024, n_ubatch=256))
    near = 0.02 * MIB * len(use.buffers)
    assert total(use, "KV") == pytest.approx(need.cache, abs=near)
    assert info.size_bytes == need.weights
    assert total(use, "output") == pytest.approx(need.output_buffer, abs=near)
    assert total(use, "compute") == pytest.approx(need.compute, rel=0.3, abs=near)
