"""What of a ModelSpec every context is made with, whatever the model is for."""

from __future__ import annotations

import os
from typing import Any, Final, Literal

import psutil

from appliance.types import FlashAttention, ModelSpec

# ggml_type and llama_flash_attn_type of include/ggml.h and include/llama.h.
_CACHE_TYPES: Final = {
    "f32": 0,
    "f16": 1,
    "q4_0": 2,
    "q4_1": 3,
    "q5_0": 6,
    "q5_1": 7,
    "q8_0": 8,
    "iq4_nl": 20,
    "bf16": 30,
}
_FLASH_ATTENTION: Final = {"auto": -1, "off": 0, "on": 1}


def set_computation(params: Any, spec: ModelSpec, cores_share: float = 1.0) -> None:
    """Threads, attention and types of the cache, in llama_context_params. cores_share: that `auto` takes of them."""
    params.n_threads = _threads(spec.threads, cores_share)
    params.n_threads_batch = _threads(spec.threads_batch, cores_share)
    params.flash_attn_type = _FLASH_ATTENTION[_flash_attention(spec.flash_attn)]
    params.type_k = _CACHE_TYPES[spec.cache_type_k]
    params.type_v = _CACHE_TYPES[spec.cache_type_v]


def _threads(wanted: int | Literal["auto"], share: float) -> int:
    """`auto`: the physical cores, or fewer where the process may not run on all of them; of these the share."""
    if wanted != "auto":
        return wanted
    allowed = len(os.sched_getaffinity(0))
    return max(1, int(share * min(psutil.cpu_count(logical=False) or allowed, allowed)))


def _flash_attention(wanted: FlashAttention | bool) -> str:
    if isinstance(wanted, bool):
        return "on" if wanted else "off"
    return wanted
