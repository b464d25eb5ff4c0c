"""appliance.placement.estimate. `bench.placement` sets it beside what llama.cpp allocates."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from appliance.gguf.layers import Layer
from appliance.placement.estimate import Correction, corrected, estimate
from tests.unit.placement.making import MIB, facts, spec


def test_a_cache_is_cells_times_layers() -> None:
    assert estimate(facts(), spec(n_ctx=8192)).cache == 8192 * 8 * (4 * 64 * 2) * 2
    split = estimate(facts(), spec(n_ctx=1000, parallel=3, kv="split"))
    assert split.cache == 3 * 512 * 8 * (4 * 64 * 2) * 2


@pytest.mark.parametrize(("kind", "ratio"), [("f32", 2.0), ("q8_0", 34 / 64), ("q4_0", 18 / 64), ("bf16", 1.0)])
def test_cache_types(kind: str, ratio: float) -> None:
    assert (
        estimate(facts(), spec(cache_type_k=kind, cache_type_v=kind)).cache == ratio * estimate(facts(), spec()).cache
    )


def test_layers_that_keep_nothing_and_layers_with_a_state() -> None:
    mixed = (Layer(MIB, 16, 0, 1000), Layer(MIB, 16, 4))
    need = estimate(replace(facts(), recurrent=True, layers=mixed), spec(n_ctx=1024))
    assert [layer.cache for layer in need.layers] == [8 * 1000 * 4, 1024 * 4 * 128 * 2, 0]


def test_latent_attention_keeps_keys_only() -> None:
    one = facts(latent_attention=True, key_length=576, value_length=512)
    assert estimate(one, spec(n_ctx=1024)).cache == 8 * 1024 * 4 * 576 * 2


def test_scores_take_memory_without_flash_attention() -> None:
    with_scores = estimate(facts(), spec(flash_attn="off")).compute
    assert with_scores > 8192 * 16 * 512 * 4
    assert estimate(facts(), spec()).compute < with_scores / 4


def test_a_window_has_a_mask_of_its_own() -> None:
    assert estimate(facts(sliding_window=512), spec()).mask == 2 * estimate(facts(), spec()).mask == 2 * 8192 * 512 * 2


def test_measuring_corrects_but_never_below_nothing() -> None:
    need = estimate(facts(), spec())
    more = corrected(need, Correction(5, 7))
    assert (more.process - need.process, more.device_process - need.device_process) == (5, 7)
    assert corrected(need, Correction(-(2**60), -(2**60))).process == 0
