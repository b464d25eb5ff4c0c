"""Random-weight models whose memory is not a plain KV cache: a recurrent state, a sliding window, a hybrid.

A prefix of a recurrent state cannot be had again, and a window forgets: wrong reuse is a silent wrong answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np
from numpy.typing import NDArray

from tests.models.vocabulary import BOS, EOS, ID, N_VOCAB, add_tokenizer

WINDOW: Final = 32

_LAYERS: Final = 2
_SIZE: Final = 128
_CONVOLUTION: Final = 4
_STATE: Final = 16
_RANK: Final = 8
_HEAD: Final = 64


def build_recurrent(path: Path) -> None:
    """A Mamba model."""
    writer = gguf.GGUFWriter(str(path), "mamba")
    _add_common(writer, "random recurrent")
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    inner = 2 * _SIZE
    writer.add_ssm_conv_kernel(_CONVOLUTION)
    writer.add_ssm_inner_size(inner)
    writer.add_ssm_state_size(_STATE)
    writer.add_ssm_time_step_rank(_RANK)
    shapes: dict[str, tuple[int, ...]] = {
        "attn_norm.weight": (_SIZE,),
        "ssm_in.weight": (2 * inner, _SIZE),
        "ssm_conv1d.weight": (inner, _CONVOLUTION),
        "ssm_conv1d.bias": (inner,),
        "ssm_x.weight": (_RANK + 2 * _STATE, inner),
        "ssm_dt.weight": (inner, _RANK),
        "ssm_dt.bias": (inner,),
        "ssm_a": (inner, _STATE),
        "ssm_d": (inner,),
        "ssm_out.weight": (_SIZE, inner),
    }
    _write(writer, shapes | {"output": (N_VOCAB, _SIZE)})


def build_sliding_window(path: Path) -> None:
    """A Gemma 2 model: every other layer sees the last WINDOW tokens only."""
    writer = gguf.GGUFWriter(str(path), "gemma2")
    _add_common(writer, "random sliding window")
    writer.add_feed_forward_length(_SIZE)
    writer.add_head_count(_SIZE // _HEAD)
    writer.add_head_count_kv(_SIZE // _HEAD)
    writer.add_key_length(_HEAD)
    writer.add_value_length(_HEAD)
    writer.add_sliding_window(WINDOW)
    shapes: dict[str, tuple[int, ...]] = {f"{norm}.weight": (_SIZE,) for norm in ("attn_norm", "ffn_norm")}
    shapes |= {f"{norm}.weight": (_SIZE,) for norm in ("post_attention_norm", "post_ffw_norm")}
    shapes |= {f"attn_{part}.weight": (_SIZE, _SIZE) for part in ("q", "k", "v", "output")}
    shapes |= {f"ffn_{part}.weight": (_SIZE, _SIZE) for part in ("gate", "up", "down")}
    _write(writer, shapes)


def build_hybrid(path: Path) -> None:
    """An LFM2 model: one layer with a recurrent state (a short convolution), one with attention."""
    writer = gguf.GGUFWriter(str(path), "lfm2")
    _add_common(writer, "random hybrid")
    heads = _SIZE // _HEAD
    writer.add_feed_forward_length(_SIZE)
    writer.add_head_count(heads)
    writer.add_head_count_kv([0, heads])
    writer.add_shortconv_l_cache(_CONVOLUTION)
    everywhere: dict[str, tuple[int, ...]] = {f"{norm}.weight": (_SIZE,) for norm in ("attn_norm", "ffn_norm")}
    everywhere |= {f"ffn_{part}.weight": (_SIZE, _SIZE) for part in ("gate", "up", "down")}
    recurrent: dict[str, tuple[int, ...]] = {
        "shortconv.conv.weight": (_SIZE, _CONVOLUTION),
        "shortconv.in_proj.weight": (3 * _SIZE, _SIZE),
        "shortconv.out_proj.weight": (_SIZE, _SIZE),
    }
    attention: dict[str, tuple[int, ...]] = {f"attn_{part}_norm.weight": (_HEAD,) for part in ("q", "k")}
    attention |= {f"attn_{part}.weight": (_SIZE, _SIZE) for part in ("q", "k", "v", "output")}
    shapes: dict[str, tuple[int, ...]] = {"output": (N_VOCAB, _SIZE)}
    _write(writer, shapes, [everywhere | recurrent, everywhere | attention], norm="token_embd_norm")


def _add_common(writer: Any, name: str) -> None:
    writer.add_name(name)
    writer.add_context_length(8192)
    writer.add_embedding_length(_SIZE)
    writer.add_block_count(_LAYERS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(N_VOCAB)
    add_tokenizer(writer)


def _write(
    writer: Any,
    shapes: dict[str, tuple[int, ...]],
    layers: Sequence[Mapping[str, tuple[int, ...]]] | None = None,
    *,
    norm: str = "output_norm",
) -> None:
    """`shapes`: tensors of every layer, and `output` once; `layers`: those of each layer, where they differ."""
    generator = np.random.default_rng(11)
    writer.add_tensor("token_embd.weight", _weights("token_embd", (N_VOCAB, _SIZE), generator))
    writer.add_tensor(f"{norm}.weight", _weights("output_norm", (_SIZE,), generator))
    if "output" in shapes:
        writer.add_tensor("output.weight", _weights("output", shapes.pop("output"), generator))
    for layer, own in enumerate(layers or [shapes] * _LAYERS):
        for name, shape in own.items():
            writer.add_tensor(f"blk.{layer}.{name}", _weights(name, shape, generator))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _weights(name: str, shape: tuple[int, ...], generator: np.random.Generator) -> NDArray[np.float32]:
    if name.startswith("post_"):
        # Gemma's output matrix is its embedding: only what the layers add may decide, or it repeats its input.
        return np.full(shape, 500, np.float32)
    if name == "output_norm":
        return np.full(shape, 0.2, np.float32)
    if "norm" in name:
        return np.ones(shape, np.float32)
    values = generator.standard_normal(shape, dtype=np.float32)
    if name == "ssm_a":
        return -np.abs(values) * np.float32(0.1)
    if name in ("token_embd", "output"):
        values[[ID["<unk>"], BOS, EOS]] = 0
        return values
    return values * np.float32(0.3)
