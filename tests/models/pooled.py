"""Small random models that make one vector or one score of a text, and the same computation in numpy.

The numpy side reads nothing but the weights and the token ids: it is what llama.cpp's vectors are held against.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import gguf
import numpy as np
from numpy.typing import NDArray

from tests.models.vocabulary import BOS, EOS, ID, N_VOCAB, add_tokenizer, word

Array = NDArray[np.float32]
Pooling = Literal["none", "mean", "cls", "last", "rank"]

CONTEXT: Final = 128
_EPSILON: Final = 1e-6
_THETA: Final = 10_000.0
_POOLINGS: Final[dict[Pooling, gguf.PoolingType]] = {
    "none": gguf.PoolingType.NONE,
    "mean": gguf.PoolingType.MEAN,
    "cls": gguf.PoolingType.CLS,
    "last": gguf.PoolingType.LAST,
    "rank": gguf.PoolingType.RANK,
}


@dataclass(frozen=True, slots=True)
class Shape:
    """size: of a vector. feed_forward: its width."""

    size: int = 64
    layers: int = 2
    heads: int = 4
    feed_forward: int = 128


SMALL: Final = Shape()

# A WordPiece vocabulary: what begins a word has a mark in front, what goes on has none.
_SPECIAL: Final = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz0123456789"
PIECES: Final = (*_SPECIAL, *(f"\u2581{letter}" for letter in _LETTERS), *_LETTERS, "\u2581[", "\u2581]", "[", "]")
CLS: Final = PIECES.index("[CLS]")
SEP: Final = PIECES.index("[SEP]")


@dataclass(frozen=True, slots=True)
class PooledModel:
    """A model as numpy computes it. pooled: the vector of a text, not normalised, or its scores."""

    path: Path
    tokens: int
    pooled: Callable[[Sequence[int]], Array]

    def vector(self, tokens: Sequence[int]) -> Array:
        """Of length one."""
        vector = self.pooled(tokens)
        return vector / np.float32(np.linalg.norm(vector))


def build_bert(
    path: Path,
    pooling: Pooling | None = "mean",
    *,
    labels: int = 1,
    seed: int = 3,
    context: int = CONTEXT,
    shape: Shape = SMALL,
) -> PooledModel:
    """A BERT model with a WordPiece vocabulary. pooling: None leaves it out of the file. labels: of a rank head."""
    weights = _Weights(seed, shape)
    writer = gguf.GGUFWriter(str(path), "bert")
    writer.add_name("random bert")
    writer.add_context_length(context)
    writer.add_embedding_length(shape.size)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_layer_norm_eps(_EPSILON)
    writer.add_causal_attention(False)
    writer.add_vocab_size(len(PIECES))
    if pooling is not None:
        writer.add_pooling_type(_POOLINGS[pooling])
    if pooling == "rank" and labels > 1:
        writer.add_classifier_output_labels([f"LABEL_{index}" for index in range(labels)])
    _add_word_pieces(writer)
    for name, size in _bert_shapes(shape, context, labels if pooling == "rank" else 0).items():
        writer.add_tensor(name, weights.make(name, size))
    _finish(writer)
    return PooledModel(path, len(PIECES), lambda tokens: _bert(weights, pooling or "mean", np.asarray(tokens)))


def build_causal(
    path: Path, pooling: Pooling | None = "last", *, seed: int = 5, rerank_template: str | None = None
) -> PooledModel:
    """A Qwen3 model, which sees only what came before. With `rank` it has two labels, yes and no."""
    shape = SMALL
    weights = _Weights(seed, shape)
    writer = gguf.GGUFWriter(str(path), "qwen3")
    writer.add_name("random causal")
    writer.add_context_length(1024)
    writer.add_embedding_length(shape.size)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads)
    writer.add_key_length(shape.size // shape.heads)
    writer.add_value_length(shape.size // shape.heads)
    writer.add_layer_norm_rms_eps(_EPSILON)
    writer.add_rope_freq_base(_THETA)
    writer.add_vocab_size(N_VOCAB)
    if pooling is not None:
        writer.add_pooling_type(_POOLINGS[pooling])
    if pooling == "rank":
        writer.add_classifier_output_labels(["yes", "no"])
    templates = [] if rerank_template is None else [{"name": "rerank", "template": rerank_template}]
    if templates:
        writer.add_chat_template(templates)
    add_tokenizer(writer)
    writer.add_add_eos_token(True)
    for name, size in _causal_shapes(shape, 2 if pooling == "rank" else 0).items():
        writer.add_tensor(name, weights.make(name, size))
    _finish(writer)
    return PooledModel(path, N_VOCAB, lambda tokens: _causal(weights, pooling or "last", np.asarray(tokens)))


def bert_tokens(text: str) -> list[int]:
    """What the WordPiece vocabulary makes of letters, digits and spaces, with what stands around it."""
    return [CLS, *_word_pieces(text), SEP]


def bert_pair(query: str, document: str) -> list[int]:
    """The same of a question and a document."""
    return [CLS, *_word_pieces(query), SEP, *_word_pieces(document), SEP]


def causal_tokens(words: Iterable[int]) -> tuple[str, list[int]]:
    """A text of numbered words, and its tokens."""
    texts = [word(index) for index in words]
    return "".join(texts), [BOS, *(ID[text] for text in texts), EOS]


def _word_pieces(text: str) -> list[int]:
    return [
        PIECES.index(letter if at else f"\u2581{letter}") for part in text.split() for at, letter in enumerate(part)
    ]


class _Weights:
    def __init__(self, seed: int, shape: Shape) -> None:
        self.shape = shape
        self._generator = np.random.default_rng(seed)
        self._made: dict[str, Array] = {}

    def make(self, name: str, shape: tuple[int, ...]) -> Array:
        values = self._generator.standard_normal(shape, dtype=np.float32)
        if name.endswith("norm.weight"):
            values = 1 + np.float32(0.1) * values
        elif len(shape) == 1:
            values *= np.float32(0.1)
        elif not name.startswith(("token_embd", "position_embd")):
            values *= np.float32(1.5 / np.sqrt(shape[-1]))
        self._made[name] = values
        return values

    def __getitem__(self, name: str) -> Array:
        return self._made[name]

    def __contains__(self, name: str) -> bool:
        return name in self._made

    def linear(self, name: str, rows: Array) -> Array:
        out: Array = rows @ self[f"{name}.weight"].T
        return out + self[f"{name}.bias"] if f"{name}.bias" in self else out


def _bert_shapes(shape: Shape, context: int, labels: int) -> dict[str, tuple[int, ...]]:
    size = shape.size
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (len(PIECES), size),
        "token_types.weight": (2, size),
        "position_embd.weight": (context, size),
    }
    shapes |= _with_bias("token_embd_norm", size)
    for layer in range(shape.layers):
        block = f"blk.{layer}."
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            shapes |= _with_bias(f"{block}{part}", size, size)
        shapes |= _with_bias(f"{block}ffn_up", shape.feed_forward, size) | _with_bias(
            f"{block}ffn_down", size, shape.feed_forward
        )
        shapes |= _with_bias(f"{block}attn_output_norm", size) | _with_bias(f"{block}layer_output_norm", size)
    if labels:
        shapes |= _with_bias("cls", size, size) | _with_bias("cls.output", labels, size)
    return shapes


def _causal_shapes(shape: Shape, labels: int) -> dict[str, tuple[int, ...]]:
    size = shape.size
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (N_VOCAB, size), "output_norm.weight": (size,)}
    for layer in range(shape.layers):
        block = f"blk.{layer}."
        shapes |= {f"{block}{norm}.weight": (size,) for norm in ("attn_norm", "ffn_norm")}
        shapes |= {f"{block}attn_{part}_norm.weight": (size // shape.heads,) for part in ("q", "k")}
        shapes |= {f"{block}attn_{part}.weight": (size, size) for part in ("q", "k", "v", "output")}
        shapes |= {f"{block}ffn_{part}.weight": (shape.feed_forward, size) for part in ("gate", "up")}
        shapes |= {f"{block}ffn_down.weight": (size, shape.feed_forward)}
    if labels:
        shapes["cls.output.weight"] = (labels, size)
    return shapes


def _with_bias(name: str, *shape: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def _add_word_pieces(writer: Any) -> None:
    types = gguf.TokenType
    writer.add_tokenizer_model("bert")
    writer.add_token_type_count(2)
    writer.add_token_list(list(PIECES))
    writer.add_token_types([types.CONTROL] * len(_SPECIAL) + [types.NORMAL] * (len(PIECES) - len(_SPECIAL)))
    writer.add_token_scores([0.0] * len(PIECES))
    writer.add_bos_token_id(CLS)
    writer.add_sep_token_id(SEP)
    writer.add_unk_token_id(PIECES.index("[UNK]"))
    writer.add_pad_token_id(PIECES.index("[PAD]"))
    writer.add_mask_token_id(PIECES.index("[MASK]"))


def _finish(writer: Any) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _bert(weights: _Weights, pooling: Pooling, tokens: NDArray[np.int64]) -> Array:
    rows = weights["token_embd.weight"][tokens] + weights["token_types.weight"][0]
    rows = _layer_norm(weights, "token_embd_norm", rows + weights["position_embd.weight"][: len(tokens)])
    for layer in range(weights.shape.layers):
        block = f"blk.{layer}."
        q, k, v = (_heads(weights.linear(f"{block}attn_{part}", rows), weights.shape.heads) for part in ("q", "k", "v"))
        seen = weights.linear(f"{block}attn_output", _attention(q, k, v, causal=False))
        rows = _layer_norm(weights, f"{block}attn_output_norm", seen + rows)
        wide = _gelu(weights.linear(f"{block}ffn_up", rows))
        rows = _layer_norm(weights, f"{block}layer_output_norm", weights.linear(f"{block}ffn_down", wide) + rows)
    if pooling == "rank":
        first = np.tanh(weights.linear("cls", rows[0]))
        return weights.linear("cls.output", first)
    return _pool(pooling, rows)


def _causal(weights: _Weights, pooling: Pooling, tokens: NDArray[np.int64]) -> Array:
    rows = weights["token_embd.weight"][tokens]
    for layer in range(weights.shape.layers):
        block = f"blk.{layer}."
        normed = _rms_norm(rows, weights[f"{block}attn_norm.weight"])
        q, k, v = (
            _heads(weights.linear(f"{block}attn_{part}", normed), weights.shape.heads) for part in ("q", "k", "v")
        )
        q, k = (
            _rotated(_rms_norm(each, weights[f"{block}attn_{name}_norm.weight"])) for each, name in ((q, "q"), (k, "k"))
        )
        rows = rows + weights.linear(f"{block}attn_output", _attention(q, k, v, causal=True))
        normed = _rms_norm(rows, weights[f"{block}ffn_norm.weight"])
        gate, up = weights.linear(f"{block}ffn_gate", normed), weights.linear(f"{block}ffn_up", normed)
        rows = rows + weights.linear(f"{block}ffn_down", gate / (1 + np.exp(-gate)) * up)
    rows = _rms_norm(rows, weights["output_norm.weight"])
    if pooling == "rank":
        return _softmax(weights.linear("cls.output", rows[-1]))
    return _pool(pooling, rows)


def _pool(pooling: Pooling, rows: Array) -> Array:
    match pooling:
        case "cls":
            pooled: Array = rows[0]
        case "last":
            pooled = rows[-1]
        case _:
            pooled = rows.mean(axis=0)
    return pooled


def _heads(rows: Array, count: int) -> Array:
    return rows.reshape(len(rows), count, -1).transpose(1, 0, 2)


def _attention(q: Array, k: Array, v: Array, *, causal: bool) -> Array:
    scores = q @ k.transpose(0, 2, 1) / np.sqrt(np.float32(q.shape[2]))
    if causal:
        scores = np.where(np.tril(np.ones(scores.shape[1:], bool)), scores, -np.inf)
    out: Array = (_softmax(scores) @ v).transpose(1, 0, 2).reshape(q.shape[1], -1)
    return out


def _rotated(rows: Array) -> Array:
    """Rotary positions, each value paired with that half a head away."""
    half = rows.shape[2] // 2
    angles = np.arange(rows.shape[1])[:, None] / _THETA ** (np.arange(half) / half)
    cos, sin = np.cos(angles), np.sin(angles)
    first, second = rows[..., :half], rows[..., half:]
    return np.concatenate((first * cos - second * sin, first * sin + second * cos), axis=2).astype(np.float32)


def _layer_norm(weights: _Weights, name: str, rows: Array) -> Array:
    centred = rows - rows.mean(axis=1, keepdims=True)
    scale = np.sqrt((centred**2).mean(axis=1, keepdims=True) + _EPSILON)
    normed: Array = centred / scale * weights[f"{name}.weight"] + weights[f"{name}.bias"]
    return normed


def _rms_norm(rows: Array, weight: Array) -> Array:
    normed: Array = rows / np.sqrt((rows**2).mean(axis=-1, keepdims=True) + _EPSILON) * weight
    return normed


def _gelu(rows: Array) -> Array:
    out: Array = 0.5 * rows * (1 + np.tanh(np.sqrt(2 / np.pi) * (rows + 0.044715 * rows**3)))
    return out


def _softmax(scores: Array) -> Array:
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    out: Array = powers / powers.sum(axis=-1, keepdims=True)
    return out
