"""appliance.gguf.quantised; that llama.cpp does the same is tested in tests/engine/test_quantizing.py."""

from __future__ import annotations

from pathlib import Path

from appliance.gguf.facts import facts_of
from appliance.gguf.file_types import file_type
from appliance.gguf.header import Array, GgufHeader, Scalar, Tensor, read_header
from appliance.gguf.quantised import quantised, quantised_again, tensor_types
from appliance.gguf.tensor_types import TENSOR_TYPES

DEMO = Path("appliance/demo/demo-chat-q8_0.gguf")
F16, Q4_0 = TENSOR_TYPES[1], TENSOR_TYPES[2]


def header(*tensors: Tensor, layers: int = 8) -> GgufHeader:
    metadata: dict[str, Scalar | Array] = {
        "general.architecture": "llama",
        "llama.block_count": layers,
        "split.count": 2,
    }
    return GgufHeader(3, metadata, tensors, 1000, 10**6)


def matrix(name: str, row: int = 256, rows: int = 4, kind: object = F16) -> Tensor:
    return Tensor(f"{name}.weight", (row, rows), kind, 0)  # type: ignore[arg-type]


def kinds(found: GgufHeader) -> list[str]:
    return [tensor.type.name for tensor in found.tensors]


def test_what_a_model_is_sensitive_to_gets_more_bits_and_what_is_small_stays() -> None:
    made = quantised(
        header(
            matrix("token_embd"),
            matrix("output"),
            matrix("blk.7.ffn_down"),
            Tensor("blk.7.attn_norm.weight", (256,), TENSOR_TYPES[0], 0),
            matrix("blk.7.ffn_gate_inp"),
            matrix("blk.7.ffn_up"),
            Tensor("blk.7.attn_q.weight", (256, 1), F16, 0),
        ),
        file_type("q4_k_m"),
    )
    assert kinds(made) == ["Q4_K", "Q6_K", "Q6_K", "F32", "F16", "Q4_K", "F16"]
    assert made.metadata["general.file_type"] == 15
    assert "split.count" not in made.metadata, "it is one file"
    assert kinds(quantised(header(matrix("token_embd")), file_type("q4_k_m"))) == ["Q6_K"], "it is the output too"


def test_layers_count_in_their_order_whatever_the_file_s() -> None:
    downs = [matrix(f"blk.{layer}.ffn_down") for layer in (10, 2, 1, 0)]
    assert kinds(quantised(header(*downs, layers=24), file_type("q4_k_m"))) == ["Q4_K", "Q6_K", "Q6_K", "Q6_K"]


def test_rows_that_are_no_whole_number_of_blocks_get_another_type() -> None:
    names = [("blk.0.ffn_up", 256), ("blk.0.ffn_gate", 96), ("blk.0.attn_q", 100)]
    made = quantised(header(*(matrix(name, row) for name, row in names)), file_type("q4_k_m"))
    assert kinds(made) == ["Q4_K", "Q5_0", "F16"]
    made = quantised(header(*(matrix(name, row) for name, row in names)), file_type("q8_0"))
    assert kinds(made) == ["Q8_0", "Q8_0", "F16"]


def test_what_would_lose_twice_is_named() -> None:
    source = header(matrix("blk.0.ffn_up", kind=Q4_0), matrix("blk.0.ffn_gate", kind=TENSOR_TYPES[8]))
    assert quantised_again(source, quantised(source, file_type("q3_k_m"))) == ("Q4_0",)
    assert quantised_again(source, quantised(source, file_type("q4_0"))) == ()


def test_what_placement_is_told_of_the_model_to_come() -> None:
    with DEMO.open("rb") as file:
        source = read_header(file)
    made = quantised(source, file_type("q4_0"))
    before, after = facts_of(source), facts_of(made)
    assert after.quantisation == "Q4_0"
    assert before.weight_bytes > 1.6 * after.weight_bytes
    assert after.weight_bytes < made.file_bytes < after.weight_bytes + 200_000
    assert (after.parameters, len(after.layers)) == (before.parameters, len(before.layers))
    assert sum(tensor_types(made).values()) == after.weight_bytes
    assert next(iter(tensor_types(made))) == "Q4_0"
