"""A random-weight GGUF of Qwen2.5-0.5B's exact shape with its real vocabulary, for timing: what it says is noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np

from bench.llama_source import fetch
from bench.source_archive import BUILD

LAYERS: Final = 24
EMBEDDING: Final = 896
FEED_FORWARD: Final = 4864
HEADS: Final = 14
KV_HEADS: Final = 2
N_VOCAB: Final = 151_936
CONTEXT: Final = 32_768
ROPE_BASE: Final = 1e6
QUANTISATION: Final = gguf.GGMLQuantizationType.Q4_0
_KV: Final = EMBEDDING // HEADS * KV_HEADS
_CHATML: Final = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build(path: Path = BUILD / "qwen2.5-0.5b-shape-q4_0.gguf") -> Path:
    """Writes the model to `path` unless it is there; about 280 MB in 20 s. Fetches the archive for the vocabulary."""
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    print(f"making {path.name}: about 20 s, once", flush=True)
    writer = gguf.GGUFWriter(str(partial), "qwen2")
    _add_metadata(writer)
    _add_tokenizer(writer, fetch().qwen2_vocabulary)
    _add_tensors(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return partial.replace(path)


def _add_metadata(writer: Any) -> None:
    writer.add_name("random weights of Qwen2.5-0.5B's shape")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(EMBEDDING)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
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


def _add_tensors(writer: Any) -> None:
    """Embeddings are tied: there is no output matrix of its own."""
    generator = np.random.default_rng(0)

    def matrix(name: str, rows: int, columns: int) -> None:
        values = generator.standard_normal((rows, columns), dtype=np.float32) * np.float32(0.02)
        writer.add_tensor(f"{name}.weight", gguf.quants.quantize(values, QUANTISATION), raw_dtype=QUANTISATION)

    def vector(name: str, value: float, size: int) -> None:
        writer.add_tensor(name, np.full(size, value, np.float32))

    matrix("token_embd", N_VOCAB, EMBEDDING)
    vector("output_norm.weight", 1, EMBEDDING)
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        for norm in ("attn_norm", "ffn_norm"):
            vector(f"{block}{norm}.weight", 1, EMBEDDING)
        for part, rows in (("q", EMBEDDING), ("k", _KV), ("v", _KV)):
            matrix(f"{block}attn_{part}", rows, EMBEDDING)
            vector(f"{block}attn_{part}.bias", 0, rows)
        matrix(f"{block}attn_output", EMBEDDING, EMBEDDING)
        matrix(f"{block}ffn_gate", FEED_FORWARD, EMBEDDING)
        matrix(f"{block}ffn_up", FEED_FORWARD, EMBEDDING)
        matrix(f"{block}ffn_down", EMBEDDING, FEED_FORWARD)
