"""How the context of a model that pools is laid out: the rules that the loader follows and the estimate must know.

Source: llama_context::decode and encode, src/llama-context.cpp of llama.cpp.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from appliance.types import ModelSpec, Pooling

# Texts of one step. They cost nothing but their tokens.
SEQUENCES: Final = 64


@dataclass(frozen=True, slots=True)
class PoolingLayout:
    """n_ctx: longest input. step_tokens: of several inputs together. batch, pass_tokens: llama.cpp's n_batch, n_ubatch.

    cells: of the KV cache, 0 without one.
    """

    n_ctx: int
    step_tokens: int
    batch: int
    pass_tokens: int
    cells: int


def pooling_layout(
    spec: ModelSpec, pooling: Pooling | None, *, n_ctx_train: int, encoder: bool, causal: bool
) -> PoolingLayout:
    """The context of a model that pools.

    n_ctx_train: 0 where the file does not say. encoder: it keeps no cache. causal: a token sees only those before it.

    An input that sees itself whole must be one pass of the device, and so must one whose rows are averaged; where only
    the last row counts, it may come in pieces. Inputs that share a pass see, masked, each other's tokens too: beyond
    n_ubatch that costs more than it saves, so that a longer input goes alone.
    """
    n_ctx = min(spec.n_ctx, n_ctx_train) if n_ctx_train > 0 else spec.n_ctx
    step_tokens = min(spec.n_ubatch, spec.n_batch)
    batch = max(n_ctx, step_tokens)
    in_pieces = causal and pooling in ("last", "rank")
    return PoolingLayout(n_ctx, step_tokens, batch, step_tokens if in_pieces else batch, 0 if encoder else batch)
