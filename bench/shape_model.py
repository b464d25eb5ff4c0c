"""A random-weight GGUF with the shape of a real small model, for timing: what it says is noise."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import gguf
import numpy as np

from tests.models.llama_file import CHAT_TEMPLATE
from tests.models.vocabulary import N_VOCAB, add_tokenizer

# Qwen2.5-0.5B's layers; the vocabulary is the tests' own small one.
LAYERS: Final = 24
EMBEDDING: Final = 896
FEED_FORWARD: Final = 4864
HEADS: Final = 14
KV_HEADS: Final = 2
CONTEXT: Final = 32768
QUANTISATION: Final = gguf.GGMLQuantizationType.Q4_0


def build(path: Path) -> Path:
    """Writes the model to `path` unless it is there; about 210 MB."""
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    writer = gguf.GGUFWriter(str(partial), "llama")
    writer.add_name("random weights of a 0.5B shape")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(EMBEDDING)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(EMBEDDING // HEADS)
    writer.add_vocab_size(N_VOCAB)
    add_tokenizer(writer)
    writer.add_chat_template(CHAT_TEMPLATE)
    generator = np.random.default_rng(0)
    for name, shape in _tensors():
        if len(shape) == 1:
            writer.add_tensor(name, np.ones(shape, np.float32))
        else:
            values = generator.standard_normal(shape, dtype=np.float32) * np.float32(0.02)
            writer.add_tensor(name, gguf.quants.quantize(values, QUANTISATION), raw_dtype=QUANTISATION)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return partial.replace(path)


def _tensors() -> list[tuple[str, tuple[int, ...]]]:
    kv = EMBEDDING // HEADS * KV_HEADS
    tensors: list[tuple[str, tuple[int, ...]]] = [
        ("token_embd.weight", (N_VOCAB, EMBEDDING)),
        ("output.weight", (N_VOCAB, EMBEDDING)),
        ("output_norm.weight", (EMBEDDING,)),
    ]
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        tensors += [(f"{block}{norm}.weight", (EMBEDDING,)) for norm in ("attn_norm", "ffn_norm")]
        tensors += [(f"{block}attn_{part}.weight", (EMBEDDING, EMBEDDING)) for part in ("q", "output")]
        tensors += [(f"{block}attn_{part}.weight", (kv, EMBEDDING)) for part in ("k", "v")]
        tensors += [(f"{block}ffn_{part}.weight", (FEED_FORWARD, EMBEDDING)) for part in ("gate", "up")]
        tensors += [(f"{block}ffn_down.weight", (EMBEDDING, FEED_FORWARD))]
    return tensors
