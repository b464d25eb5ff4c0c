"""Models as the quantiser sees them: small matrices in the shapes that its choices depend on. None computes."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

from tests.models.vocabulary import add_tokenizer

_ROW = 256


def build_shapes(
    path: Path,
    *,
    architecture: str = "llama",
    layers: int = 20,
    heads: int = 8,
    kv_heads: int = 2,
    experts: int = 0,
    tied: bool = False,
    odd: bool = False,
) -> None:
    """experts: in each layer, 0 for none. tied: without an output matrix. odd: rows of which 256 is no part."""
    row = 288 if odd else _ROW
    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_name("shapes")
    writer.add_context_length(1024)
    writer.add_embedding_length(row)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(_ROW)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_layer_norm_eps(1e-5)
    if experts:
        writer.add_expert_count(experts)
        writer.add_expert_used_count(2)
    add_tokenizer(writer)

    def matrix(name: str, *shape: int) -> None:
        writer.add_tensor(name, np.zeros(shape, np.float16 if len(shape) > 1 else np.float32))

    matrix("token_embd.weight", 64, row)
    matrix("output_norm.weight", row)
    if not tied:
        matrix("output.weight", 64, row)
    deep = (experts,) if experts else ()
    suffix = "_exps" if experts else ""
    for layer in range(layers):
        block = f"blk.{layer}."
        matrix(f"{block}attn_norm.weight", row)
        for part in ("q", "k", "v", "output"):
            matrix(f"{block}attn_{part}.weight", 4, row)
        if experts:
            matrix(f"{block}ffn_gate_inp.weight", experts, row)
        for part in ("gate", "up"):
            matrix(f"{block}ffn_{part}{suffix}.weight", *deep, 4, row)
        matrix(f"{block}ffn_down{suffix}.weight", *deep, 4, _ROW)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
