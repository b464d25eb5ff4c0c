"""GGUF files of real models' shapes, without their weights: headers as they are, data that is one hole.

Zeros load, take memory and compute like anything else, and a sparse file of 40 GB costs no disk.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np

Q = gguf.GGMLQuantizationType
_ALIGNMENT: Final = 32
_CONTEXT: Final = 32_768
_BYTES: Final = 256
Tensor = tuple[str, tuple[int, ...], Any]


@dataclass(frozen=True, slots=True)
class Shape:
    """A transformer's. experts: (all, used, feed-forward length). window: 0 without one."""

    name: str
    architecture: str
    layers: int
    embedding: int
    feed_forward: int
    heads: int
    kv_heads: int
    head: int
    vocabulary: int
    quantisation: Any = Q.Q4_K
    output: Any = Q.Q6_K
    tied: bool = False
    window: int = 0
    experts: tuple[int, int, int] | None = None


def build_all(folder: Path) -> dict[str, Path]:
    """Every shape by name; some seconds in all, once."""
    folder.mkdir(parents=True, exist_ok=True)
    builders: dict[str, Callable[[Path], None]] = {shape.name: _builder(shape) for shape in TRANSFORMERS}
    builders |= {"Mamba-2.8B": _mamba, "LFM2-700M (hybrid)": _lfm2, "DeepSeek-V2-Lite (MLA)": _deepseek}
    paths = {}
    for name, build in builders.items():
        path = folder / f"{name.split(' ', maxsplit=1)[0].lower()}-{name.count('Q8')}.gguf"
        if not path.exists():
            partial = path.with_suffix(".partial")
            build(partial)
            partial.replace(path)
        paths[name] = path
    return paths


TRANSFORMERS: Final = (
    Shape("Qwen2.5-0.5B Q4_0", "qwen2", 24, 896, 4864, 14, 2, 64, 151_936, Q.Q4_0, tied=True),
    Shape("Qwen2.5-0.5B Q8_0", "qwen2", 24, 896, 4864, 14, 2, 64, 151_936, Q.Q8_0, tied=True),
    Shape("Llama-3.2-1B", "llama", 16, 2048, 8192, 32, 8, 64, 128_256, Q.Q8_0, tied=True),
    Shape("Gemma-2-2B (window)", "gemma2", 26, 2304, 9216, 8, 4, 256, 256_000, Q.Q8_0, tied=True, window=4096),
    Shape("Gemma-3-1B (window)", "gemma3", 26, 1152, 6912, 4, 1, 256, 262_144, Q.Q8_0, tied=True, window=512),
    Shape("Llama-3.1-8B", "llama", 32, 4096, 14_336, 32, 8, 128, 128_256),
    Shape("Qwen3-8B", "qwen3", 36, 4096, 12_288, 32, 8, 128, 151_936),
    Shape("Llama-3.3-70B", "llama", 80, 8192, 28_672, 64, 8, 128, 128_256),
    Shape("Mixtral-8x7B", "llama", 32, 4096, 14_336, 32, 8, 128, 32_000, experts=(8, 2, 14_336)),
    Shape("Qwen3-30B-A3B", "qwen3moe", 48, 2048, 6144, 32, 4, 128, 151_936, experts=(128, 8, 768)),
)


def _builder(shape: Shape) -> Callable[[Path], None]:
    def metadata(writer: Any) -> None:
        writer.add_feed_forward_length(shape.feed_forward)
        writer.add_head_count(shape.heads)
        writer.add_head_count_kv(shape.kv_heads)
        writer.add_key_length(shape.head)
        writer.add_value_length(shape.head)
        if shape.architecture == "llama":
            writer.add_rope_dimension_count(shape.head)
        if shape.window:
            writer.add_sliding_window(shape.window)
        if shape.experts:
            writer.add_expert_count(shape.experts[0])
            writer.add_expert_used_count(shape.experts[1])
            writer.add_expert_feed_forward_length(shape.experts[2])

    return lambda path: _write(
        path, shape.architecture, shape.layers, shape.embedding, shape.vocabulary, metadata, _transformer(shape)
    )


def _transformer(shape: Shape) -> Iterator[Tensor]:
    size, kind = shape.embedding, shape.quantisation
    queries, keys = shape.heads * shape.head, shape.kv_heads * shape.head
    gemma = shape.architecture.startswith("gemma")
    yield "token_embd.weight", (shape.vocabulary, size), kind
    yield "output_norm.weight", (size,), Q.F32
    if not shape.tied:
        yield "output.weight", (shape.vocabulary, size), shape.output
    for layer in range(shape.layers):
        norms = ["attn_norm", "ffn_norm", *(("post_attention_norm", "post_ffw_norm") if gemma else ())]
        yield from _vectors(layer, norms, size)
        if shape.architecture in ("gemma3", "qwen3", "qwen3moe"):
            yield from _vectors(layer, ("attn_q_norm", "attn_k_norm"), shape.head)
        yield from _matrices(layer, kind, attn_q=(queries, size), attn_k=(keys, size), attn_v=(keys, size))
        yield from _matrices(layer, kind, attn_output=(size, queries))
        if shape.architecture == "qwen2":
            for part, rows in (("q", queries), ("k", keys), ("v", keys)):
                yield f"blk.{layer}.attn_{part}.bias", (rows,), Q.F32
        if shape.experts is None:
            wide = shape.feed_forward
            yield from _matrices(layer, kind, ffn_gate=(wide, size), ffn_up=(wide, size), ffn_down=(size, wide))
        else:
            yield from _expert_tensors(layer, kind, size, shape.experts[0], shape.experts[2])


def _expert_tensors(layer: int, kind: Any, size: int, count: int, wide: int) -> Iterator[Tensor]:
    yield from _matrices(layer, Q.F32, ffn_gate_inp=(count, size))
    for part, shape in (("gate", (count, wide, size)), ("up", (count, wide, size)), ("down", (count, size, wide))):
        yield from _matrices(layer, kind, **{f"ffn_{part}_exps": shape})


def _mamba(path: Path) -> None:
    layers, size, state, kernel, rank, vocabulary = 64, 2560, 16, 4, 160, 50_280
    inner = 2 * size

    def metadata(writer: Any) -> None:
        writer.add_feed_forward_length(0)
        writer.add_head_count(0)
        writer.add_ssm_conv_kernel(kernel)
        writer.add_ssm_inner_size(inner)
        writer.add_ssm_state_size(state)
        writer.add_ssm_time_step_rank(rank)

    def tensors() -> Iterator[Tensor]:
        yield "token_embd.weight", (vocabulary, size), Q.Q8_0
        yield "output_norm.weight", (size,), Q.F32
        yield "output.weight", (vocabulary, size), Q.Q8_0
        for layer in range(layers):
            yield from _vectors(layer, ("attn_norm",), size)
            yield from _matrices(layer, Q.Q8_0, ssm_in=(2 * inner, size), ssm_out=(size, inner))
            yield from _matrices(layer, Q.F32, ssm_conv1d=(inner, kernel), ssm_x=(rank + 2 * state, inner))
            yield from _matrices(layer, Q.F32, ssm_dt=(inner, rank))
            block = f"blk.{layer}."
            yield f"{block}ssm_conv1d.bias", (inner,), Q.F32
            yield f"{block}ssm_dt.bias", (inner,), Q.F32
            yield f"{block}ssm_a", (inner, state), Q.F32
            yield f"{block}ssm_d", (inner,), Q.F32

    _write(path, "mamba", layers, size, vocabulary, metadata, tensors())


def _lfm2(path: Path) -> None:
    layers, size, wide, heads, kv_heads, length, vocabulary = 16, 1536, 6912, 24, 8, 3, 65_536
    attends, head, kind = {2, 5, 8, 10, 12, 14}, size // heads, Q.Q8_0

    def metadata(writer: Any) -> None:
        writer.add_feed_forward_length(wide)
        writer.add_head_count(heads)
        writer.add_head_count_kv([kv_heads if layer in attends else 0 for layer in range(layers)])
        writer.add_shortconv_l_cache(length)

    def tensors() -> Iterator[Tensor]:
        yield "token_embd.weight", (vocabulary, size), kind
        yield "token_embd_norm.weight", (size,), Q.F32
        for layer in range(layers):
            yield from _vectors(layer, ("attn_norm", "ffn_norm"), size)
            yield from _matrices(layer, kind, ffn_gate=(wide, size), ffn_up=(wide, size), ffn_down=(size, wide))
            if layer in attends:
                keys = (kv_heads * head, size)
                yield from _vectors(layer, ("attn_q_norm", "attn_k_norm"), head)
                yield from _matrices(
                    layer, kind, attn_q=(size, size), attn_k=keys, attn_v=keys, attn_output=(size, size)
                )
            else:
                yield f"blk.{layer}.shortconv.conv.weight", (size, length), Q.F32
                yield f"blk.{layer}.shortconv.in_proj.weight", (3 * size, size), kind
                yield f"blk.{layer}.shortconv.out_proj.weight", (size, size), kind

    _write(path, "lfm2", layers, size, vocabulary, metadata, tensors())


def _deepseek(path: Path) -> None:
    layers, size, wide, expert, heads, vocabulary, kind = 27, 2048, 10_944, 1408, 16, 102_400, Q.Q8_0
    latent, rope, nope, value, experts, shared = 512, 64, 128, 128, 64, 2

    def metadata(writer: Any) -> None:
        writer.add_feed_forward_length(wide)
        writer.add_head_count(heads)
        writer.add_head_count_kv(1)
        writer.add_key_length(latent + rope)
        writer.add_value_length(latent)
        writer.add_key_length_mla(nope + rope)
        writer.add_value_length_mla(value)
        writer.add_kv_lora_rank(latent)
        writer.add_rope_dimension_count(rope)
        writer.add_leading_dense_block_count(1)
        writer.add_expert_count(experts)
        writer.add_expert_used_count(6)
        writer.add_expert_shared_count(shared)
        writer.add_expert_feed_forward_length(expert)
        writer.add_expert_weights_scale(1.0)
        writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SOFTMAX)

    def tensors() -> Iterator[Tensor]:
        yield "token_embd.weight", (vocabulary, size), kind
        yield "output_norm.weight", (size,), Q.F32
        yield "output.weight", (vocabulary, size), kind
        for layer in range(layers):
            yield from _vectors(layer, ("attn_norm", "ffn_norm"), size)
            yield from _vectors(layer, ("attn_kv_a_norm",), latent)
            yield from _matrices(layer, kind, attn_q=(heads * (nope + rope), size), attn_kv_a_mqa=(latent + rope, size))
            yield from _matrices(layer, kind, attn_k_b=(heads, latent, nope), attn_v_b=(heads, value, latent))
            yield from _matrices(layer, kind, attn_output=(size, heads * value))
            if layer == 0:
                yield from _matrices(layer, kind, ffn_gate=(wide, size), ffn_up=(wide, size), ffn_down=(size, wide))
                continue
            yield from _expert_tensors(layer, kind, size, experts, expert)
            both = shared * expert
            yield from _matrices(layer, kind, ffn_gate_shexp=(both, size), ffn_up_shexp=(both, size))
            yield from _matrices(layer, kind, ffn_down_shexp=(size, both))

    _write(path, "deepseek2", layers, size, vocabulary, metadata, tensors())


def _vectors(layer: int, names: Any, size: int) -> Iterator[Tensor]:
    for name in names:
        yield f"blk.{layer}.{name}.weight", (size,), Q.F32


def _matrices(layer: int, kind: Any, **shapes: tuple[int, ...]) -> Iterator[Tensor]:
    for name, shape in shapes.items():
        yield f"blk.{layer}.{name}.weight", shape, kind


def _write(
    path: Path,
    architecture: str,
    layers: int,
    embedding: int,
    vocabulary: int,
    metadata: Callable[[Any], None],
    tensors: Iterator[Tensor],
) -> None:
    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_context_length(_CONTEXT)
    writer.add_embedding_length(embedding)
    writer.add_block_count(layers)
    writer.add_layer_norm_rms_eps(1e-6)
    metadata(writer)
    _add_tokenizer(writer, vocabulary)
    data = 0
    for name, shape, kind in tensors:
        block_values, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        size = prod(shape) // block_values * block_bytes
        if block_values > 1:
            stored = (*shape[:-1], shape[-1] // block_values * block_bytes)
            writer.add_tensor_info(name, stored, np.dtype(np.uint8), size, raw_dtype=kind)
        else:
            writer.add_tensor_info(name, shape, np.dtype(np.float32), size, raw_dtype=kind)
        data += -(-size // _ALIGNMENT) * _ALIGNMENT
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    header = -(-path.stat().st_size // _ALIGNMENT) * _ALIGNMENT
    os.truncate(path, header + data)


def _add_tokenizer(writer: Any, vocabulary: int) -> None:
    types = gguf.TokenType
    words = vocabulary - _BYTES - 3
    writer.add_vocab_size(vocabulary)
    writer.add_tokenizer_model("llama")
    words_list = [f"word{index}" for index in range(words)]
    writer.add_token_list(["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(_BYTES)), *words_list])
    writer.add_token_scores([0.0] * vocabulary)
    writer.add_token_types([types.UNKNOWN, *[types.CONTROL] * 2, *[types.BYTE] * _BYTES, *[types.NORMAL] * words])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
