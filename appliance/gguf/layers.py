"""What each layer of a model keeps for every token or sequence, from its metadata and its tensors' names.

Which layers attend and which carry a state differs by architecture; the tensors they have say it for all of them.
Sizes of states: n_embd_r and n_embd_s of llama.cpp's src/llama-hparams.cpp.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Final, Protocol

from msgspec import Struct

LAYERS_MAX: Final = 1024

_STATE_PARTS: Final = ("ssm_", "shortconv.", "time_mix_")
_ATTENTION_PARTS: Final = ("attn_k.", "attn_kv_a", "attn_kv_b", "attn_kv.")
# What architectures do that their files do not say: layers from this number on use the cache of earlier ones.
_KV_LAYERS: Final = {"gemma3n": 20}
_TOKEN_SHIFT_DEFAULT: Final = 2
_VALUES_MAX: Final = 2**48


class Fields(Protocol):
    """The metadata of the model's architecture; 0 for what is missing."""

    def count(self, key: str) -> int:
        """A number."""
        ...


class Layer(Struct, frozen=True):
    """One block. weight_bytes: of its tensors. kv_heads: 0 where it keeps nothing for a token.

    state_values: numbers of 32 bits it keeps for each sequence, 0 where it has no recurrent state.
    """

    weight_bytes: int
    heads: int
    kv_heads: int
    state_values: int = 0


class LayerParts:
    """What a model's tensors say of its layers."""

    def __init__(self, names: Iterable[str]) -> None:
        self._parts: defaultdict[int, set[str]] = defaultdict(set)
        for name in names:
            if (block := block_of(name)) is not None:
                self._parts[block].add(name.split(".", 2)[2])

    def has_state(self, layer: int) -> bool:
        """Whether it has a recurrent state."""
        return self._has(layer, _STATE_PARTS)

    def attends(self, layer: int) -> bool:
        """Whether it keeps keys and values. A joint matrix of both also serves layers whose state is all they keep."""
        return self._has(layer, _ATTENTION_PARTS) or not self.has_state(layer)

    def _has(self, layer: int, starts: tuple[str, ...]) -> bool:
        return any(part.startswith(starts) for part in self._parts.get(layer, ()))


def block_of(tensor: str) -> int | None:
    """`blk.12.attn_q.weight` is of layer 12."""
    parts = tensor.split(".", 2)
    return int(parts[1]) if parts[0] == "blk" and len(parts) == 3 and parts[1].isdecimal() else None


def state_values(own: Fields, embedding: int, heads: int) -> int:
    """Numbers that one layer with a recurrent state keeps for one sequence; a file may say what it likes."""
    return min(_state_values(own, embedding, heads), _VALUES_MAX)


def _state_values(own: Fields, embedding: int, heads: int) -> int:
    if head := own.count("wkv.head_size"):
        return embedding * (own.count("token_shift_count") or _TOKEN_SHIFT_DEFAULT) + embedding * head
    inner, state, kernel = own.count("ssm.inner_size"), own.count("ssm.state_size"), own.count("ssm.conv_kernel")
    if length := own.count("shortconv.l_cache"):
        return embedding * (length - 1) + state * inner
    if head := own.count("kda.head_dim"):
        return 3 * (kernel - 1 if kernel else 3) * heads * head + head * head * heads
    return max(0, kernel - 1) * (inner + 2 * own.count("ssm.group_count") * state) + state * inner


def layers_with_kv(architecture: str, own: Fields, count: int) -> int:
    """How many layers, from the first, have a cache of their own."""
    return min(count, _KV_LAYERS.get(architecture, count)) - min(count, own.count("attention.shared_kv_layers"))
