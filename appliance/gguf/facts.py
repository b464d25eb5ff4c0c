"""What a model is, from its header: size, shape, quantisation, template, licence."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from appliance.errors import GgufError
from appliance.gguf.file_types import FILE_TYPES
from appliance.gguf.header import Array, GgufHeader, Scalar
from appliance.gguf.layers import LAYERS_MAX, Layer, LayerParts, block_of, layers_with_kv, state_values
from appliance.gguf.pooling import ENCODERS, POOLING_NAMES, kind_of, pooling_of
from appliance.types import ModelKind, Pooling

CHAT_TEMPLATE_CHARS_MAX: Final = 65_536

_INPUT_TENSORS: Final = ("token_embd.", "per_layer_token_embd.", "position_embd.", "token_types.")


class ModelFacts(Struct, frozen=True, kw_only=True):
    """layers: in order. key_length, value_length: values of one head of the KV cache. sliding_window: 0 without one.

    input_bytes, output_bytes: weights before the first layer and after the last; with a tied output the last are the
    first, used again. latent_attention: keys and values are one. feed_forward_length: of the widest layer;
    expert_feed_forward_length, experts_used: of each expert, and how many compute a token. state_inner_size: width of
    a recurrent layer. tensor_bytes_max: of the largest tensor in a layer. chat_template_sha256: hex, of its UTF-8;
    None without a template. kind, pooling: what it is for, and how it makes one vector or score of a text, where it
    says so. causal: a token sees only those before it.
    """

    architecture: str
    name: str | None
    license: str | None
    quantisation: str
    parameters: int
    weight_bytes: int
    context_length: int
    embedding_length: int
    vocabulary: int
    layers: tuple[Layer, ...]
    key_length: int
    value_length: int
    sliding_window: int
    recurrent: bool
    experts: int
    input_bytes: int
    output_bytes: int
    chat_template: str | None
    chat_template_sha256: str | None
    split: tuple[int, int] | None
    """(number from 0, count) of a file that is one of several."""
    tied_output: bool = False
    latent_attention: bool = False
    feed_forward_length: int = 0
    expert_feed_forward_length: int = 0
    experts_used: int = 0
    state_inner_size: int = 0
    tensor_bytes_max: int = 0
    kind: ModelKind = "chat"
    pooling: Pooling | None = None
    causal: bool = True


def facts_of(header: GgufHeader) -> ModelFacts:
    """Raises GgufError where the header does not describe a model."""
    fields = _Fields(header.metadata)
    architecture = fields.text("general.architecture")
    if architecture is None:
        raise GgufError("it does not say of which architecture it is (general.architecture)")
    own = _Fields(header.metadata, f"{architecture}.")
    count = own.count("block_count")
    if count > LAYERS_MAX:
        raise GgufError(f"it has {count} layers, more than {LAYERS_MAX}")
    heads = own.per_layer("attention.head_count", count)
    embedding = own.count("embedding_length")
    head = embedding // max(heads, default=0) if any(heads) else 0
    weights, largest = Counter[int](), 0
    outside: Counter[str] = Counter()
    for tensor in header.tensors:
        block = block_of(tensor.name)
        if block is None:
            outside["input" if tensor.name.startswith(_INPUT_TENSORS) else "output"] += tensor.bytes
        else:
            weights[block] += tensor.bytes
            largest = max(largest, tensor.bytes)
    layers = _layers(header, own, architecture, weights, heads)
    pooling = POOLING_NAMES.get(own.count("pooling_type", missing=-1))
    template = fields.text("tokenizer.chat_template")
    if template is not None and len(template) > CHAT_TEMPLATE_CHARS_MAX:
        raise GgufError(f"its chat template is longer than {CHAT_TEMPLATE_CHARS_MAX} characters")
    return ModelFacts(
        architecture=architecture,
        name=fields.text("general.name"),
        license=fields.text("general.license"),
        quantisation=_quantisation(header),
        parameters=sum(tensor.values for tensor in header.tensors),
        weight_bytes=sum(tensor.bytes for tensor in header.tensors),
        context_length=own.count("context_length"),
        embedding_length=embedding,
        vocabulary=own.count("vocab_size") or fields.length("tokenizer.ggml.tokens"),
        layers=layers,
        key_length=own.count("attention.key_length") or head,
        value_length=own.count("attention.value_length") or head,
        sliding_window=own.count("attention.sliding_window"),
        recurrent=any(layer.state_values for layer in layers),
        experts=own.count("expert_count"),
        input_bytes=outside["input"],
        output_bytes=outside["output"],
        chat_template=template,
        chat_template_sha256=None if template is None else hashlib.sha256(template.encode()).hexdigest(),
        split=_split(fields),
        tied_output=all(tensor.name != "output.weight" for tensor in header.tensors),
        latent_attention=own.count("attention.key_length_mla") > 0,
        feed_forward_length=max(own.per_layer("feed_forward_length", count), default=0),
        expert_feed_forward_length=own.count("expert_feed_forward_length"),
        experts_used=own.count("expert_used_count"),
        state_inner_size=own.count("ssm.inner_size"),
        tensor_bytes_max=largest,
        kind=kind_of(pooling_of(pooling, None, architecture)),
        pooling=pooling,
        causal=own.flag("attention.causal", default=architecture not in ENCODERS),
    )


def _layers(
    header: GgufHeader, own: _Fields, architecture: str, weights: Mapping[int, int], heads: tuple[int, ...]
) -> tuple[Layer, ...]:
    count = len(heads)
    kv_heads = own.per_layer("attention.head_count_kv", count, heads)
    parts = LayerParts(tensor.name for tensor in header.tensors)
    with_kv = layers_with_kv(architecture, own, count)
    state = state_values(own, own.count("embedding_length"), max(heads, default=0))
    return tuple(
        Layer(
            weight_bytes=weights.get(i, 0),
            heads=heads[i],
            kv_heads=kv_heads[i] if i < with_kv and parts.attends(i) else 0,
            state_values=state if parts.has_state(i) else 0,
        )
        for i in range(count)
    )


class _Fields:
    """Metadata by what it should be; what is of another type counts as missing."""

    def __init__(self, metadata: Mapping[str, Scalar | Array], prefix: str = "") -> None:
        self._metadata = metadata
        self._prefix = prefix

    def text(self, key: str) -> str | None:
        value = self._metadata.get(self._prefix + key)
        return value if isinstance(value, str) else None

    def count(self, key: str, missing: int = 0) -> int:
        value = self._metadata.get(self._prefix + key)
        return value if isinstance(value, int) and value >= 0 else missing

    def flag(self, key: str, *, default: bool) -> bool:
        value = self._metadata.get(self._prefix + key)
        return value if isinstance(value, bool) else default

    def length(self, key: str) -> int:
        value = self._metadata.get(self._prefix + key)
        return value.count if isinstance(value, Array) else 0

    def per_layer(self, key: str, count: int, default: tuple[int, ...] | None = None) -> tuple[int, ...]:
        """One number for all layers, or one for each."""
        value = self._metadata.get(self._prefix + key)
        if isinstance(value, Array) and value.values is not None and value.count == count:
            return tuple(each if isinstance(each, int) and each >= 0 else 0 for each in value.values)
        if isinstance(value, int) and value >= 0:
            return (value,) * count
        return default or (0,) * count


def _quantisation(header: GgufHeader) -> str:
    """What the file says it is; else the type that most of its bytes have."""
    said = header.metadata.get("general.file_type")
    if isinstance(said, int) and said in FILE_TYPES:
        return FILE_TYPES[said]
    types: Counter[str] = Counter()
    for tensor in header.tensors:
        types[tensor.type.name] += tensor.bytes
    return types.most_common(1)[0][0] if types else "none"


def _split(fields: _Fields) -> tuple[int, int] | None:
    count = fields.count("split.count")
    number = fields.count("split.no")
    if count < 2:
        return None
    if number >= count:
        raise GgufError(f"it says it is part {number + 1} of {count}")
    return number, count
