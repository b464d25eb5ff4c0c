"""What llama.cpp's quantiser will make of a model, before it does: the type of each tensor, and so every size. Pure.

Follows src/llama-quant.cpp without an importance matrix; a test compares the two. What it does for single
architectures beyond Falcon's is left out: there the size is off by what some small tensors differ.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from appliance.gguf.facts import ModelFacts, facts_of
from appliance.gguf.file_types import FileType, file_type
from appliance.gguf.header import ALIGNMENT_DEFAULT, Array, GgufHeader, Tensor
from appliance.gguf.tensor_types import TENSOR_TYPES, TensorType

_BY_NAME: Final = {kind.name: kind for kind in TENSOR_TYPES.values()}
# Each clearly smaller than the one before it, down to where answers begin to suffer.
_ADVISED: Final = ("q8_0", "q6_k", "q5_k_m", "q4_k_m")
_FLOATS: Final = ("F32", "F16", "BF16")
# Matrices that are small, or that a model is sensitive to.
_KEPT_PARTS: Final = (
    "_norm.weight",
    "ffn_gate_inp.weight",
    "ffn_gate_tid2eid.weight",
    "altup",
    "laurel",
    "per_layer_model_proj",
    "ssm_conv1d",
    "shortconv.conv.weight",
    "indexer.k_proj.weight",
    "indexer.q_proj.weight",
    *(
        f"time_mix_{part}.weight"
        for part in ("first", "w0", "w1", "w2", "v0", "v1", "v2", "a0", "a1", "a2", "g1", "g2")
    ),
    "time_mix_decay_w1.weight",
    "time_mix_decay_w2.weight",
    "time_mix_lerp_fused.weight",
    "attn_rel_b.weight",
    ".position_embd",
    "sam.pos_embd",
    "sam.neck.",
    "sam.net_",
    ".rel_pos",
    ".patch_embd",
    ".patch_merger",
    "a.rvq.codebook",
    "mm.a.code_embd",
)
_KEPT: Final = ("position_embd.weight", "token_types.weight")
_EMBEDDINGS: Final = ("token_embd.weight", "per_layer_token_embd.weight")
_OUTPUT: Final = "output.weight"
_VALUES: Final = ("attn_qkv.weight", "attn_kv_b.weight", "attn_v.weight")
# For rows that are no multiple of 256: types of 32 in their place.
_NARROW: Final = {
    "IQ3_S": "IQ4_NL",
    "IQ4_XS": "IQ4_NL",
    "Q2_K": "Q4_0",
    "Q3_K": "Q4_0",
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
}
_LAYER: Final = re.compile(r"blk\.(\d+)\.")
# What the header of the new file may have more than that of the old one.
_METADATA_BYTES: Final = 256


def quantised(header: GgufHeader, to: FileType) -> GgufHeader:
    """The header that the new file will have, as far as `facts_of` looks; its offsets and bytes are about right.

    header: of all parts of a split model, as `join_parts` makes it.
    """
    choice = _Choice(header, to)
    # The order counts: what some tensors become depends on how many of their kind came before.
    kinds = {tensor.name: choice.of(tensor) for tensor in sorted(header.tensors, key=_order)}
    tensors, offset = [], 0
    for tensor in header.tensors:
        made = Tensor(tensor.name, tensor.shape, kinds[tensor.name], offset)
        tensors.append(made)
        offset += -(-made.bytes // ALIGNMENT_DEFAULT) * ALIGNMENT_DEFAULT
    metadata = {key: value for key, value in header.metadata.items() if not key.startswith("split.")}
    start = header.data_offset + _METADATA_BYTES
    return replace(
        header,
        metadata=metadata | {"general.file_type": to.number},
        tensors=tuple(tensors),
        data_offset=start,
        file_bytes=start + offset,
    )


def quantised_again(header: GgufHeader, made: GgufHeader) -> tuple[str, ...]:
    """Types that have lost precision already, of weights that would be converted once more; Q8_0 has hardly any."""
    lost = {
        old.type.name
        for old, new in zip(header.tensors, made.tensors, strict=True)
        if old.type != new.type and old.type.name not in (*_FLOATS, "Q8_0")
    }
    return tuple(sorted(lost))


class SmallerModel(Struct, frozen=True, kw_only=True):
    """What a model can become. to: the type's name. facts: as they will be."""

    to: str
    facts: ModelFacts


def smaller_models(header: GgufHeader) -> tuple[SmallerModel, ...]:
    """What is advised of the types that are smaller, largest first; nothing where weights would lose twice."""
    before, found = sum(tensor.bytes for tensor in header.tensors), []
    for name in _ADVISED:
        made = quantised(header, file_type(name))
        weights = sum(tensor.bytes for tensor in made.tensors)
        if weights < before and not quantised_again(header, made):
            found.append(SmallerModel(to=name, facts=facts_of(made)))
            before = weights
    return tuple(found)


def smaller_types(header: GgufHeader) -> dict[str, int]:
    """The same by name, with the bytes of the weights."""
    return {smaller.to: smaller.facts.weight_bytes for smaller in smaller_models(header)}


def tensor_types(header: GgufHeader) -> dict[str, int]:
    """How many bytes of the weights are of each type, most first."""
    found: Counter[str] = Counter()
    for tensor in header.tensors:
        found[tensor.type.name] += tensor.bytes
    return dict(found.most_common())


class _Choice:
    """llama_tensor_get_type, asked once for each tensor in order."""

    def __init__(self, header: GgufHeader, to: FileType) -> None:
        architecture = str(header.metadata.get("general.architecture", ""))
        names = [tensor.name for tensor in header.tensors]

        def first(key: str) -> int:
            value = header.metadata.get(f"{architecture}.{key}", 0)
            if isinstance(value, Array):
                value = value.values[0] if value.values else 0
            return value if isinstance(value, int) else 0

        heads, kv_heads = first("attention.head_count"), first("attention.head_count_kv")
        kv_heads = kv_heads or heads
        self._name = to.name
        self._base = to.base
        self._layers = first("block_count")
        self._experts = first("expert_count")
        self._falcon = architecture == "falcon"
        self._shares = heads // kv_heads if kv_heads else 0
        self._is_70b = self._layers == 80 and self._shares > 1
        self._tied = _OUTPUT not in names
        self._values = sum(_has(name, _VALUES) for name in names)
        self._values_seen = 0
        self._downs_seen = 0

    def of(self, tensor: Tensor) -> TensorType:
        """The type it will have."""
        if not _is_converted(tensor):
            return tensor.type
        if self._base in _FLOATS:
            return _BY_NAME[self._base]
        return _fitting(self._wanted(tensor), tensor)

    def _wanted(self, tensor: Tensor) -> str:
        name = tensor.name
        if name == _OUTPUT or (self._tied and name in _EMBEDDINGS):
            return self._output(tensor)
        if name in _EMBEDDINGS:
            return self._base
        if _has(name, _VALUES):
            return self._value()
        if "attn_k.weight" in name:
            return "Q8_0" if self._experts == 8 else self._base
        if "attn_q.weight" in name:
            return self._base
        if "attn_output.weight" in name:
            return self._attention_output()
        return self._down(name) if "ffn_down" in name else self._base

    def _output(self, tensor: Tensor) -> str:
        if self._falcon or tensor.shape[0] % _BY_NAME[self._base].block_values:
            return "Q8_0"
        return self._base if self._base == "Q8_0" else "Q6_K"

    def _value(self) -> str:
        name, seen, grouped = self._name, self._values_seen, self._shares >= 4
        self._values_seen += 1
        kind = self._base
        if name == "Q2_K":
            kind = "Q4_K" if grouped else "Q3_K"
        elif (name == "IQ3_S" and grouped) or name == "IQ3_M":
            kind = "Q4_K"
        elif name == "Q3_K_M":
            kind = "Q5_K" if seen < 2 else "Q4_K"
        elif name == "Q3_K_L" or (name in ("IQ4_NL", "IQ4_XS") and grouped):
            kind = "Q5_K"
        elif name in ("Q4_K_M", "Q5_K_M") and _more_bits(seen, self._values):
            kind = "Q6_K"
        elif name == "Q4_K_S" and seen < 4:
            kind = "Q5_K"
        if self._is_70b and kind in ("Q3_K", "Q4_K"):
            kind = "Q5_K"
        return "Q8_0" if self._experts == 8 else kind

    def _down(self, tensor: str) -> str:
        name, count = self._name, self._layers
        found = _LAYER.match(tensor)
        layer = int(found[1]) if self._experts > 1 and found else self._downs_seen
        self._downs_seen += 1
        early, more = layer < count // 8, _more_bits(layer, count)
        if name == "Q2_K":
            return "Q3_K"
        if name == "Q3_K_M":
            if layer < count // 16:
                return "Q5_K"
            return "Q4_K" if not self._falcon or more else "Q3_K"
        if name == "IQ3_M" and (early or (self._experts == 8 and more)):
            return "Q4_K"
        if name == "Q3_K_L":
            return "Q4_K" if self._falcon else "Q5_K"
        if name == "Q4_K_M":
            if self._falcon:
                return "Q6_K" if layer < count // 16 else "Q5_K" if more else "Q4_K"
            return "Q6_K" if more else self._base
        if name in ("IQ4_NL", "IQ4_XS") and early:
            return "Q5_K"
        if name == "Q5_K_M" and more:
            return "Q6_K"
        return "Q5_K" if name == "Q4_K_S" and not self._falcon and early else self._base

    def _attention_output(self) -> str:
        name = self._name
        if self._falcon:
            return "Q4_K" if name == "Q3_K_L" else self._base
        if self._experts == 8:
            low = ("Q2_K", "Q3_K_S", "Q3_K_M", "IQ4_NL", "Q4_K_S", "Q4_K_M", "IQ3_S", "IQ3_M", "IQ4_XS")
            return "Q5_K" if name in low else self._base
        return {"Q2_K": "Q3_K", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K", "IQ3_M": "Q4_K"}.get(name, self._base)


def _order(tensor: Tensor) -> tuple[int, str]:
    """As llama.cpp's weights_map: what is of no layer first, then by layer, then by name."""
    found = _LAYER.match(tensor.name)
    return int(found[1]) if found else -1, tensor.name


def _is_converted(tensor: Tensor) -> bool:
    """Matrices only, and not all of them."""
    name = tensor.name
    return (
        any(size > 1 for size in tensor.shape[1:])
        and name.endswith("weight")
        and name not in _KEPT
        and not _has(name, _KEPT_PARTS)
    )


def _fitting(name: str, tensor: Tensor) -> TensorType:
    """The type, or the one that takes its place where a row is no whole number of its blocks."""
    for kind in (name, _NARROW.get(name, name)):
        if tensor.shape[0] % _BY_NAME[kind].block_values == 0:
            return _BY_NAME[kind]
    return _BY_NAME["F16"]


def _more_bits(layer: int, layers: int) -> bool:
    """The first and the last eighth, and every third between them."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


def _has(name: str, parts: tuple[str, ...]) -> bool:
    return any(part in name for part in parts)
