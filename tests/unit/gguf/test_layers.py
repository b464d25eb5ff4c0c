"""appliance.gguf.layers"""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.gguf.facts import ModelFacts, facts_of
from appliance.gguf.header import read_header
from appliance.gguf.layers import LayerParts, layers_with_kv, state_values
from tests.models.other_memories import build_hybrid, build_recurrent, build_sliding_window


def facts(path: Path) -> ModelFacts:
    with path.open("rb") as file:
        return facts_of(read_header(file))


class Own(dict[str, int]):
    """Metadata of an architecture."""

    def count(self, key: str) -> int:
        return self.get(key, 0)


def test_a_recurrent_model_keeps_a_state_and_no_cells(tmp_path: Path) -> None:
    build_recurrent(tmp_path / "m.gguf")
    found = facts(tmp_path / "m.gguf")
    assert found.recurrent and found.state_inner_size == 256
    assert [(layer.kv_heads, layer.state_values) for layer in found.layers] == [(0, 3 * 256 + 16 * 256)] * 2


def test_a_hybrid_has_both(tmp_path: Path) -> None:
    build_hybrid(tmp_path / "m.gguf")
    found = facts(tmp_path / "m.gguf")
    assert found.recurrent
    assert [(layer.kv_heads, layer.state_values) for layer in found.layers] == [(0, 3 * 128), (2, 0)]


def test_a_sliding_window_is_an_ordinary_cache(tmp_path: Path) -> None:
    build_sliding_window(tmp_path / "m.gguf")
    found = facts(tmp_path / "m.gguf")
    assert not found.recurrent and found.tied_output
    assert [(layer.kv_heads, layer.state_values) for layer in found.layers] == [(2, 0)] * 2
    assert found.feed_forward_length == 128 and found.tensor_bytes_max == 128 * 128 * 4


def test_a_joint_matrix_attends_unless_the_layer_has_a_state() -> None:
    parts = LayerParts(
        ["blk.0.attn_qkv.weight", "blk.1.attn_qkv.weight", "blk.1.ssm_a", "blk.2.attn_k.weight", "blk.2.ssm_a"]
    )
    assert [(parts.attends(i), parts.has_state(i)) for i in range(4)] == [
        (True, False),
        (False, True),
        (True, True),
        (True, False),
    ]


@pytest.mark.parametrize(
    ("own", "values"),
    [
        ({}, 0),
        ({"wkv.head_size": 64}, 128 * 2 + 128 * 64),
        ({"shortconv.l_cache": 3}, 256),
        ({"kda.head_dim": 16, "ssm.conv_kernel": 4}, 3 * 3 * 8 * 16 + 16 * 16 * 8),
        ({"ssm.inner_size": 256, "ssm.state_size": 16, "ssm.conv_kernel": 4, "ssm.group_count": 2}, 3 * 320 + 4096),
        ({"ssm.inner_size": 2**63, "ssm.state_size": 2**63}, 2**48),
    ],
)
def test_states(own: dict[str, int], values: int) -> None:
    assert state_values(Own(own), 128, 8) == values


def test_layers_that_use_the_cache_of_earlier_ones() -> None:
    assert layers_with_kv("llama", Own(), 30) == 30
    assert layers_with_kv("gemma4", Own({"attention.shared_kv_layers": 10}), 30) == 20
    assert layers_with_kv("gemma3n", Own(), 30) == 20
    assert layers_with_kv("odd", Own({"attention.shared_kv_layers": 2**40}), 30) == 0
