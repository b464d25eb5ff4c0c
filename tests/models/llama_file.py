"""Writes a GGUF of llama architecture from weights that a test chose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

from tests.models.vocabulary import N_VOCAB, add_tokenizer

Weights = Callable[[str, tuple[int, ...]], NDArray[np.float32]]

CHAT_TEMPLATE = "{% for m in messages %}{{ m.role }}:{{ m.content }}{% if not loop.last %}\n{% endif %}{% endfor %}"
HEAD_SIZE = 64
FEED_FORWARD = 64


def write_llama(
    path: Path,
    weights: Weights,
    *,
    name: str,
    layers: int,
    context: int = 8192,
    architecture: str = "llama",
    chat_template: str | None = CHAT_TEMPLATE,
    rms_epsilon: float = 1e-5,
    tensors_per_file: int = 0,
    controls: Sequence[str] = (),
    pieces: Sequence[str] = (),
    size: int = N_VOCAB,
) -> None:
    """`weights(name, shape)` gives each tensor; a wrong `architecture` makes a file that llama.cpp refuses.

    tensors_per_file: 0 for all in one; else `path` gets several, with `-00001-of-0000N` in their names. controls,
    pieces: see add_tokenizer. size: of an embedding, a multiple of HEAD_SIZE.
    """
    writer = gguf.GGUFWriter(str(path), architecture, split_max_tensors=tensors_per_file)
    writer.add_name(name)
    writer.add_context_length(context)
    writer.add_embedding_length(size)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(size // HEAD_SIZE)
    writer.add_head_count_kv(size // HEAD_SIZE)
    writer.add_layer_norm_rms_eps(rms_epsilon)
    writer.add_rope_dimension_count(HEAD_SIZE)
    writer.add_vocab_size(N_VOCAB)
    add_tokenizer(writer, controls, pieces)
    if chat_template is not None:
        writer.add_chat_template(chat_template)
    for tensor, shape in _tensors(layers, size):
        writer.add_tensor(tensor, weights(tensor, shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _tensors(layers: int, size: int) -> list[tuple[str, tuple[int, ...]]]:
    tensors: list[tuple[str, tuple[int, ...]]] = [
        ("token_embd.weight", (N_VOCAB, size)),
        ("output.weight", (N_VOCAB, size)),
        ("output_norm.weight", (size,)),
    ]
    for layer in range(layers):
        block = f"blk.{layer}."
        tensors += [(f"{block}{norm}.weight", (size,)) for norm in ("attn_norm", "ffn_norm")]
        tensors += [(f"{block}attn_{part}.weight", (size, size)) for part in ("q", "k", "v", "output")]
        tensors += [(f"{block}ffn_{part}.weight", (FEED_FORWARD, size)) for part in ("gate", "up")]
        tensors += [(f"{block}ffn_down.weight", (size, FEED_FORWARD))]
    return tensors
