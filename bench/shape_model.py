"""Random-weight GGUFs of Qwen2.5's exact shapes with its real vocabulary, for timing: what they say is noise."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np

from bench.llama_source import fetch
from bench.source_archive import BUILD

N_VOCAB: Final = 151_936
CONTEXT: Final = 32_768
ROPE_BASE: Final = 1e6
QUANTISATION: Final = gguf.GGMLQuantizationType.Q4_0
# ggml's block_q4_0: a float16 scale, and 32 numbers of 4 bits that count from -8 on. Drawn evenly they deviate by 4.61.
_BLOCK_VALUES: Final = 32
_SCALE: Final = np.float16(0.02 / 4.61)
_CHATML: Final = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True, slots=True)
class Shape:
    """tied: the embedding is the output's matrix too."""

    name: str
    layers: int
    embedding: int
    feed_forward: int
    heads: int
    kv_heads: int
    tied: bool


HALF_BILLION: Final = Shape("Qwen2.5-0.5B", 24, 896, 4864, 14, 2, tied=True)
SHAPES: Final = {"0.5b": HALF_BILLION, "7b": Shape("Qwen2.5-7B", 28, 3584, 18_944, 28, 4, tied=False)}


def build(shape: Shape = HALF_BILLION, folder: Path = BUILD) -> Path:
    """Writes the model unless it is there: 280 MB, or 4.3 GB for 7B, which memory must hold meanwhile.

    Fetches the archive for the vocabulary.
    """
    path = folder / f"{shape.name.lower()}-shape-q4_0.gguf"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    print(f"making {path.name}, once", flush=True)
    writer = gguf.GGUFWriter(str(partial), "qwen2")
    _add_metadata(writer, shape)
    _add_tokenizer(writer, fetch().qwen2_vocabulary)
    _add_tensors(writer, shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return partial.replace(path)


def _add_metadata(writer: Any, shape: Shape) -> None:
    writer.add_name(f"random weights of {shape.name}'s shape")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(shape.embedding)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_freq_base(ROPE_BASE)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_0)
    writer.add_chat_template(_CHATML)


def _add_tokenizer(writer: Any, vocabulary: Path) -> None:
    """Copies every tokenizer field, its chat template excepted."""
    for field in gguf.GGUFReader(str(vocabulary)).fields.values():
        if not field.name.startswith("tokenizer.") or field.name == "tokenizer.chat_template":
            continue
        if field.types[0] == gguf.GGUFValueType.ARRAY:
            writer.add_array(field.name, field.contents())
        else:
            writer.add_key_value(field.name, field.contents(), field.types[0])


def _add_tensors(writer: Any, shape: Shape) -> None:
    generator = np.random.default_rng(0)
    size, wide, keys = shape.embedding, shape.feed_forward, shape.embedding // shape.heads * shape.kv_heads

    def matrix(name: str, rows: int, columns: int) -> None:
        blocks = rows * columns // _BLOCK_VALUES
        stored = np.empty((blocks, _SCALE.itemsize + _BLOCK_VALUES // 2), np.uint8)
        stored[:, : _SCALE.itemsize] = np.frombuffer(_SCALE.tobytes(), np.uint8)
        stored[:, _SCALE.itemsize :] = generator.integers(0, 256, (blocks, _BLOCK_VALUES // 2), np.uint8)
        writer.add_tensor(f"{name}.weight", stored.reshape(rows, -1), raw_dtype=QUANTISATION)

    def vector(name: str, value: float, length: int) -> None:
        writer.add_tensor(name, np.full(length, value, np.float32))

    matrix("token_embd", N_VOCAB, size)
    vector("output_norm.weight", 1, size)
    if not shape.tied:
        matrix("output", N_VOCAB, size)
    for layer in range(shape.layers):
        block = f"blk.{layer}."
        for norm in ("attn_norm", "ffn_norm"):
            vector(f"{block}{norm}.weight", 1, size)
        for part, rows in (("q", size), ("k", keys), ("v", keys)):
            matrix(f"{block}attn_{part}", rows, size)
            vector(f"{block}attn_{part}.bias", 0, rows)
        matrix(f"{block}attn_output", size, size)
        matrix(f"{block}ffn_gate", wide, size)
        matrix(f"{block}ffn_up", wide, size)
        matrix(f"{block}ffn_down", size, wide)
