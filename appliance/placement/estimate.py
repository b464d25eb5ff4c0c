"""How much memory a model will take, from what its file says and how it is to be run.

Weights and caches are exact: they are the shapes that llama.cpp allocates. Compute buffers follow from what its graphs
hold at once (src/llama-graph.cpp, src/models/*): the mask of the attention and the widest moment of a layer or of the
output. The factors were read off llama.cpp's own simulated allocations; `bench.placement` compares both.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from appliance.gguf.facts import ModelFacts
from appliance.gguf.layers import Layer
from appliance.gguf.pooling import ENCODERS, pooling_of
from appliance.placement.pooling import SEQUENCES, pooling_layout
from appliance.placement.rules import flash_attention, kv_mode, padded, pass_tokens, scored_tokens, slots, stream_cells
from appliance.types import CacheType, ModelSpec, Pooling

MIB: Final = 2**20
# Values and bytes of a block, from ggml's type traits.
_CACHE_BLOCKS: Final[dict[CacheType, tuple[int, int]]] = {
    "f32": (1, 4),
    "f16": (1, 2),
    "bf16": (1, 2),
    "q8_0": (32, 34),
    "q5_1": (32, 24),
    "q5_0": (32, 22),
    "q4_1": (32, 20),
    "q4_0": (32, 18),
    "iq4_nl": (32, 18),
}
# A worker without its model: interpreter, libraries, llama.cpp's own bookkeeping.
PROCESS_BYTES: Final = 56 * MIB
# Of each token: its text in llama.cpp's vocabulary and in ours, and merges.
_TOKEN_BYTES: Final = 320
# What a process takes of a GPU beside its buffers: the driver's context, kernels, cuBLAS's workspace. 604 to 624 MiB on
# an H100 with CUDA 13, about 100 more for models with experts (`bench.placement --gpu`).
DEVICE_PROCESS_BYTES: Final = 640 * MIB
_FLOAT: Final = 4
_HALF: Final = 2


class LayerMemory(Struct, frozen=True):
    """What goes where the layer goes, in bytes. weights: those of the output too, where it is the last item."""

    weights: int
    cache: int

    @property
    def bytes(self) -> int:
        """Both."""
        return self.weights + self.cache


class MemoryEstimate(Struct, frozen=True, kw_only=True):
    """All in bytes.

    layers: in order; then one more, the output. tied_output: the output's weights are the input's, and take memory of
    their own only on a GPU. input_weights, output_buffer, process, preempted: always on the host; preempted is what
    waits there while others run, and is free until then. compute: on every device that computes. mask,
    input_activations: those parts of it that are held several times where several GPUs share all layers. tensor_max: a
    GPU that computes prompts for layers on the host borrows one of their tensors at a time. host_work: what the
    processor converts for itself where it computes layers; llama.cpp's account leaves it out. device_process: on every
    GPU that is used. later: on the host, for outputs of a step that has more of them than any so far, and of a model
    that pools for vectors that will be known.
    """

    layers: tuple[LayerMemory, ...]
    tied_output: bool
    input_weights: int
    compute: int
    mask: int
    input_activations: int
    output_buffer: int
    process: int
    preempted: int
    tensor_max: int
    host_work: int
    device_process: int = DEVICE_PROCESS_BYTES
    later: int = 0

    @property
    def weights(self) -> int:
        """Of the whole model, once."""
        own = self.layers[:-1] if self.tied_output else self.layers
        return self.input_weights + sum(layer.weights for layer in own)

    @property
    def cache(self) -> int:
        """KV cells and recurrent states."""
        return sum(layer.cache for layer in self.layers)

    @property
    def buffers(self) -> int:
        """What llama.cpp allocates where no GPU takes part."""
        return self.weights + self.cache + self.compute + self.output_buffer


class Correction(Struct, frozen=True):
    """What measuring taught: bytes that a load took beyond its estimate, or less; of the host, and of each GPU."""

    host: int = 0
    device: int = 0


NO_CORRECTION: Final = Correction()


class Footprint(Struct, frozen=True):
    """Bytes that a placed model takes: of the host, and of each GPU in the order of the machine's."""

    host: int
    devices: tuple[int, ...] = ()

    @property
    def total(self) -> int:
        """All of it."""
        return self.host + sum(self.devices)


def estimate(facts: ModelFacts, spec: ModelSpec) -> MemoryEstimate:
    """What `spec` makes of a model. `layout` says where it can go."""
    pooling = pooling_of(facts.pooling, spec.pooling, facts.architecture)
    if pooling != "none":
        return _estimate_pooling(facts, spec, pooling)
    kv = kv_mode(spec, facts.context_length, facts.recurrent)
    n_slots, cells = slots(spec, kv), stream_cells(spec, kv)
    streams = n_slots if kv == "split" else 1
    layers = [
        LayerMemory(layer.weight_bytes, _kv_bytes(facts, layer, spec) * cells * streams + _state_bytes(layer, n_slots))
        for layer in facts.layers
    ]
    output = facts.output_bytes + (facts.input_bytes if facts.tied_output else 0)
    # llama.cpp reserves a pass of equally many tokens for every slot.
    tokens = -(-pass_tokens(spec) // n_slots) * n_slots
    mask = _mask_bytes(facts, spec, cells, tokens)
    row = facts.vocabulary * _FLOAT
    scored = scored_tokens(spec, facts.vocabulary)
    logits = min(tokens, n_slots + scored) * row
    cache = sum(layer.cache for layer in layers)
    return MemoryEstimate(
        layers=(*layers, LayerMemory(output, 0)),
        tied_output=facts.tied_output,
        input_weights=facts.input_bytes + (facts.output_bytes if facts.tied_output else 0),
        compute=mask
        + max(_layer_peak(facts, spec, cells, n_slots, tokens), logits + tokens * facts.embedding_length * _FLOAT),
        mask=mask,
        input_activations=tokens * facts.embedding_length * _FLOAT,
        output_buffer=n_slots * row,
        later=scored * row,
        process=PROCESS_BYTES + facts.vocabulary * _TOKEN_BYTES,
        preempted=min(spec.preempt_host_mib * MIB, cache),
        tensor_max=facts.tensor_bytes_max,
        host_work=_host_work(facts, spec, cells, tokens),
    )


def _estimate_pooling(facts: ModelFacts, spec: ModelSpec, pooling: Pooling | None) -> MemoryEstimate:
    """Of a model that makes vectors or scores: a pass may be one long text, and nothing is kept after it.

    llama.cpp has room for logits and vectors of every token of a text, also where nobody wants either.
    """
    encoder = facts.architecture in ENCODERS
    context = pooling_layout(spec, pooling, n_ctx_train=facts.context_length, encoder=encoder, causal=facts.causal)
    tokens, cells = context.pass_tokens, context.cells or context.pass_tokens
    whole = replace(spec, kv="unified", parallel=1, n_ctx=cells, n_batch=context.batch, n_ubatch=tokens)
    layers = [
        LayerMemory(
            layer.weight_bytes,
            _kv_bytes(facts, layer, spec) * padded(context.cells) + _state_bytes(layer, SEQUENCES),
        )
        for layer in facts.layers
    ]
    # Without a gate the feed-forward holds one wide vector where `_layer_peak` counts three.
    peak = replace(facts, feed_forward_length=facts.feed_forward_length // 3) if facts.architecture == "bert" else facts
    mask = _mask_bytes(facts, whole, cells, tokens)
    outputs = (facts.vocabulary + facts.embedding_length) * _FLOAT
    logits = 0 if encoder else tokens * facts.vocabulary * _FLOAT
    output = facts.output_bytes + (facts.input_bytes if facts.tied_output and not encoder else 0)
    return MemoryEstimate(
        layers=(*layers, LayerMemory(output, 0)),
        tied_output=facts.tied_output and not encoder,
        input_weights=facts.input_bytes + (facts.output_bytes if facts.tied_output and not encoder else 0),
        compute=mask
        + max(_layer_peak(peak, whole, cells, 1, tokens), logits + 2 * tokens * facts.embedding_length * _FLOAT),
        mask=mask,
        input_activations=tokens * facts.embedding_length * _FLOAT,
        output_buffer=SEQUENCES * outputs,
        process=PROCESS_BYTES + facts.vocabulary * _TOKEN_BYTES,
        preempted=0,
        later=(context.batch - SEQUENCES) * outputs + spec.embedding_cache_mib * MIB,
        tensor_max=facts.tensor_bytes_max,
        host_work=_host_work(facts, whole, cells, tokens),
    )


def corrected(need: MemoryEstimate, correction: Correction) -> MemoryEstimate:
    """With what earlier loads of this file taught."""
    return replace(
        need,
        process=max(0, need.process + correction.host),
        device_process=max(0, need.device_process + correction.device),
    )


def _kv_bytes(facts: ModelFacts, layer: Layer, spec: ModelSpec) -> int:
    """One cell of one layer. Where keys hold the values too (MLA) there are no others."""
    keys = _cache_bytes(spec.cache_type_k, layer.kv_heads * facts.key_length)
    return (
        keys if facts.latent_attention else keys + _cache_bytes(spec.cache_type_v, layer.kv_heads * facts.value_length)
    )


def _cache_bytes(kind: CacheType, values: int) -> int:
    block_values, block_bytes = _CACHE_BLOCKS[kind]
    return -(-values // block_values) * block_bytes


def _state_bytes(layer: Layer, n_slots: int) -> int:
    return layer.state_values * n_slots * _FLOAT


def _mask_bytes(facts: ModelFacts, spec: ModelSpec, cells: int, tokens: int) -> int:
    """Which cells each token may see. A sliding window has one of its own, over all cells (swa_full)."""
    if not any(layer.kv_heads for layer in facts.layers):
        return 0
    masks = 2 if facts.sliding_window else 1
    return masks * cells * tokens * (_HALF if flash_attention(spec) else _FLOAT)


def _host_work(facts: ModelFacts, spec: ModelSpec, cells: int, tokens: int) -> int:
    """The widest operand of a product in the type of the other: of the feed-forward, or all scores."""
    heads = max((layer.heads for layer in facts.layers), default=0)
    scores = 0 if flash_attention(spec) else cells * heads
    return max(facts.feed_forward_length, scores) * tokens * _HALF


def _layer_peak(facts: ModelFacts, spec: ModelSpec, cells: int, n_slots: int, tokens: int) -> int:
    """The most that is alive at once inside a layer, in bytes, for `tokens` of one pass.

    Factors by simulated allocation, see the module: feed-forward holds gate, up and their product beside four vectors
    of the residual stream; experts hold their outputs twice; attention holds three such vectors beside queries, keys
    and values, and all its scores without flash attention; a recurrent layer seven times its inner width, and the state
    of every slot.
    """
    heads = max((layer.heads for layer in facts.layers), default=0)
    kv_heads = max((layer.kv_heads for layer in facts.layers), default=0)
    embedding, queries = facts.embedding_length, heads * facts.key_length
    expert = (facts.expert_feed_forward_length or facts.feed_forward_length) * facts.experts_used
    wide = max(3 * facts.feed_forward_length, 3 * expert, expert + 2 * embedding * facts.experts_used)
    widths = [wide + 3 * embedding + max(queries, embedding)]
    widths.append(3 * embedding + queries + 2 * kv_heads * facts.key_length)
    states = max((layer.state_values for layer in facts.layers), default=0)
    recurrent = (7 * facts.state_inner_size * tokens + n_slots * states) * _FLOAT if states else 0
    if flash_attention(spec):
        return max(max(widths) * tokens * _FLOAT, recurrent)
    scores = cells * heads + 2 * embedding + 3 * queries + 2 * kv_heads * facts.key_length
    # Values that lie within the keys are copied out of all cells, those of every stream.
    streams = n_slots if kv_mode(spec, facts.context_length, facts.recurrent) == "split" else 1
    copied = cells * streams * facts.value_length * _HALF if facts.latent_attention else 0
    return max(max(widths) * tokens * _FLOAT, recurrent, scores * tokens * _FLOAT + copied)
