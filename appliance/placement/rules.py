"""How a ModelSpec becomes llama.cpp's context: the rules that the loader follows and the estimate must know.

Source of padding and division: the constructor of llama_context, src/llama-context.cpp of llama.cpp.
"""

from __future__ import annotations

from typing import Final, Literal

from appliance.types import ModelSpec

# llama.cpp aborts the process where slots outnumber cells.
SHARE_MIN: Final = 16
# LLAMA_MAX_SEQ of src/llama-cparams.h.
SLOTS_MAX: Final = 256
# `kv: auto` splits the cache where every slot gets this many cells.
SPLIT_SHARE_MIN: Final = 8192
# Where the log probabilities of a prompt are asked for, its logits take so much memory at once, but for tiny steps.
SCORED_BYTES: Final = 32 * 2**20
SCORED_MIN: Final = 8
# Cells of a cache come in such pieces.
CELLS_STEP: Final = 256


def kv_mode(spec: ModelSpec, n_ctx_train: int, state_is_whole: bool) -> Literal["unified", "split"]:
    """`auto`: split where a slot's own share is as long as a request may ever want to be, or at least long.

    n_ctx_train: 0 where the file does not say. state_is_whole: the memory is, or has in part, a recurrent state.

    Attention in a unified cache visits the cells of all slots, idle ones included, to find them masked; a stream of
    one's own costs only the length of the request, and copied prefixes. Recurrent states need the spare slots of a
    unified cache for their checkpoints. docs/BENCHMARKS.md has both modes measured.
    """
    if spec.kv != "auto":
        return spec.kv
    roomy = spec.n_ctx // spec.parallel >= min(SPLIT_SHARE_MIN, n_ctx_train or SPLIT_SHARE_MIN)
    return "split" if roomy and not state_is_whole else "unified"


def slots(spec: ModelSpec, kv: str) -> int:
    """Sequence ids: in a unified cache twice as many as run at once, which cost nothing and hold idle residents."""
    if kv == "split":
        return spec.parallel
    return max(spec.parallel, min(2 * spec.parallel, SLOTS_MAX, spec.n_ctx // SHARE_MIN))


def stream_cells(spec: ModelSpec, kv: str) -> int:
    """KV cells of one stream: of the whole cache when unified, else of one slot."""
    cells = padded(spec.n_ctx)
    return cells if kv == "unified" else padded(cells // spec.parallel)


def pass_tokens(spec: ModelSpec) -> int:
    """Most tokens of one pass on a device."""
    return min(spec.n_ubatch, max(spec.n_batch, spec.parallel), padded(spec.n_ctx))


def scored_tokens(spec: ModelSpec, n_vocab: int) -> int:
    """Most tokens of prompts in a step that each get a row of logits, beside the one row of every slot."""
    return max(SCORED_MIN, min(pass_tokens(spec), SCORED_BYTES // (4 * max(1, n_vocab))))


def flash_attention(spec: ModelSpec) -> bool:
    """Whether attention will be computed without its scores in memory. `auto` counts as on: it is, on every device
    and for every model that can, and a quantised V cache needs it."""
    return spec.flash_attn not in (False, "off")


def padded(cells: int) -> int:
    """Cells in whole steps."""
    return -(-cells // CELLS_STEP) * CELLS_STEP
