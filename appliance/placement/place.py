"""Where a model goes, and who must leave for it; or why it cannot be, and what would help.

As many layers as possible go to the GPUs: an idle model leaves before a layer of a wanted one goes to the host. Where
the whole model cannot be on GPUs, the rest is planned in host memory the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from appliance.gguf.facts import ModelFacts
from appliance.gguf.quantised import SmallerModel
from appliance.placement.advice import Way, gib, no_room_sentence
from appliance.placement.estimate import MIB, NO_CORRECTION, Correction, Footprint, corrected, estimate
from appliance.placement.evictions import evictable, fewest
from appliance.placement.layout import Layout
from appliance.placement.memory import Loaded, Memory
from appliance.placement.rules import CELLS_STEP, SHARE_MIN, flash_attention
from appliance.placement.speed import tokens_per_second
from appliance.types import ModelSpec

MARGIN_BYTES: Final = 1024 * MIB


class Smaller(Struct, frozen=True, kw_only=True):
    """Which files can be made of a model's, largest first. command: what makes one; the type's name goes behind it."""

    models: tuple[SmallerModel, ...]
    command: str


class Placement(Struct, frozen=True, kw_only=True):
    """It fits. evict: models to unload first. layers: of the model, its output counted as one.

    n_gpu_layers, tensor_split: as llama.cpp takes them; the split has a number for every GPU of the machine.
    tokens_per_second: about, for one user, from what must be read for each token.
    """

    n_gpu_layers: int
    layers: int
    tensor_split: tuple[int, ...]
    footprint: Footprint
    evict: tuple[str, ...]
    tokens_per_second: float


class NoRoom(Struct, frozen=True, kw_only=True):
    """It does not fit. need: in host memory alone. ways: what would make it fit, best first; each of them does.

    sentence: all of it for the operator.
    """

    need: Footprint
    ways: tuple[Way, ...]
    sentence: str


def place(
    facts: ModelFacts,
    spec: ModelSpec,
    memory: Memory,
    loaded: Sequence[Loaded],
    *,
    correction: Correction = NO_CORRECTION,
    margin_bytes: int = MARGIN_BYTES,
    smaller: Smaller | None = None,
) -> Placement | NoRoom:
    """The decision. memory: as it is now, with `loaded` in it.

    margin_bytes: stays free on every GPU that is used, and on the host. smaller: what the file can be made. More
    memory never turns a Placement into NoRoom. See the package for how it is carried out.
    """
    question = _Question(facts, memory, loaded, correction, margin_bytes)
    return question.answer(spec) or _no_room(question, spec, smaller)


def find_place(
    facts: ModelFacts, spec: ModelSpec, memory: Memory, correction: Correction, margin_bytes: int
) -> Placement | None:
    """The same without advice, and without anybody leaving."""
    return _Question(facts, memory, (), correction, margin_bytes).answer(spec)


def placed_spec(spec: ModelSpec, placement: Placement) -> ModelSpec:
    """What to load: `n_gpu_layers: auto` has become a number."""
    return replace(
        spec,
        n_gpu_layers=placement.n_gpu_layers,
        tensor_split=tuple(float(items) for items in placement.tensor_split) if placement.n_gpu_layers else (),
    )


class _Question:
    """All but the spec, which advice varies."""

    def __init__(
        self, facts: ModelFacts, memory: Memory, loaded: Sequence[Loaded], correction: Correction, margin_bytes: int
    ) -> None:
        self.facts = facts
        self.memory = memory
        self.loaded = loaded
        self.correction = correction
        self.margin_bytes = margin_bytes

    def answer(self, spec: ModelSpec) -> Placement | None:
        need = corrected(estimate(self.facts, spec), self.correction)
        layout = Layout(need, spec.tensor_split)
        wanted = None if spec.n_gpu_layers == "auto" else spec.n_gpu_layers
        idle = evictable(self.loaded)

        def most(without: Sequence[Loaded]) -> tuple[int, ...] | None:
            return layout.most(self.memory.plus(without), self.margin_bytes, wanted)

        best = most(idle)
        if best is None:
            return None

        def as_good(without: Sequence[Loaded]) -> bool:
            split = most(without)
            return split is not None and sum(split) >= sum(best)

        evict = fewest(idle, as_good)
        split = most(evict or ())
        assert evict is not None and split is not None, "what fits without all of them was said to fit"
        return Placement(
            n_gpu_layers=sum(split),
            layers=layout.items,
            tensor_split=split,
            footprint=layout.footprint(split),
            evict=tuple(model.model for model in evict),
            tokens_per_second=tokens_per_second(self.facts, need, split, self.memory),
        )

    def without(self, models: Sequence[Loaded]) -> _Question:
        """As if these could leave."""
        freed = [replace(model, pinned=False, busy=False) if model in models else model for model in self.loaded]
        return _Question(self.facts, self.memory, freed, self.correction, self.margin_bytes)

    def of(self, facts: ModelFacts) -> _Question:
        """The same of another file."""
        return _Question(facts, self.memory, self.loaded, self.correction, self.margin_bytes)


def _no_room(question: _Question, spec: ModelSpec, smaller: Smaller | None) -> NoRoom:
    need = corrected(estimate(question.facts, spec), question.correction)
    layout = Layout(need)
    in_host = layout.footprint((0,) * len(question.memory.devices))
    ways = tuple(way for way in _ways(question, spec, smaller) if way is not None)
    free = question.memory.plus(evictable(question.loaded))
    return NoRoom(
        need=in_host, ways=ways, sentence=no_room_sentence(spec, need, in_host, free, question.margin_bytes, ways)
    )


def _ways(question: _Question, spec: ModelSpec, smaller: Smaller | None) -> list[Way | None]:
    """Best first: settings, by what they cost: quality, room, speed; then another file; then others' models."""
    small = replace(spec, cache_type_k="q8_0", cache_type_v="q8_0")
    larger = flash_attention(spec) and {spec.cache_type_k, spec.cache_type_v} <= {"f32", "f16", "bf16"}
    by_cache = question.answer(small) if larger else None
    return [
        None if by_cache is None else _way("cache_type_k and cache_type_v q8_0", small, question.facts, by_cache),
        _shorter(question, spec, "n_ctx {}"),
        _shorter(question, small, "n_ctx {} with cache_type_k and cache_type_v q8_0")
        if larger and not by_cache
        else None,
        _on_host(question, spec),
        None if smaller is None else _quantized(question, spec, smaller),
        _without_others(question, spec),
    ]


def _shorter(question: _Question, spec: ModelSpec, words: str) -> Way | None:
    """The longest context that fits, in whole steps of cells."""
    low, high = -(-SHARE_MIN * spec.parallel // CELLS_STEP), -(-spec.n_ctx // CELLS_STEP)
    found = None
    while low < high:
        middle = (low + high) // 2
        shorter = replace(spec, n_ctx=middle * CELLS_STEP)
        if (answer := question.answer(shorter)) is None:
            high = middle
        else:
            found, low = _way(words.format(shorter.n_ctx), shorter, question.facts, answer), middle + 1
    return found


def _on_host(question: _Question, spec: ModelSpec) -> Way | None:
    """Where a number of layers was asked for: as many as fit."""
    if spec.n_gpu_layers == "auto" or not spec.n_gpu_layers:
        return None
    auto = question.answer(replace(spec, n_gpu_layers="auto"))
    if auto is None:
        return None
    words = (
        f"n_gpu_layers {auto.n_gpu_layers}, with {auto.layers - auto.n_gpu_layers} of {auto.layers} layers on the CPU, "
        f"about {auto.tokens_per_second:.3g} tokens/s for one user"
    )
    return _way(words, replace(spec, n_gpu_layers=auto.n_gpu_layers), question.facts, auto)


def _quantized(question: _Question, spec: ModelSpec, smaller: Smaller) -> Way | None:
    """The largest type that fits: it loses the least."""
    for model in smaller.models:
        if (answer := question.of(model.facts).answer(spec)) is not None:
            words = f"{model.to} weights, about {gib(model.facts.weight_bytes)}: `{smaller.command} {model.to}`"
            return _way(words, spec, model.facts, answer)
    return None


def _without_others(question: _Question, spec: ModelSpec) -> Way | None:
    """The fewest models that are busy or pinned now: busy ones before pinned ones."""
    held = sorted(
        (model for model in question.loaded if model.pinned or model.busy), key=lambda m: (m.pinned, m.last_used)
    )
    chosen = fewest(held, lambda models: question.without(models).answer(spec) is not None)
    if not chosen:
        return None
    answer = question.without(chosen).answer(spec)
    assert answer is not None, "it was said to fit without them"
    names = " and ".join(f"{model.model!r} ({'pinned' if model.pinned else 'busy'})" for model in chosen)
    return _way(f"unload {names}", spec, question.facts, answer)


def _way(words: str, spec: ModelSpec, facts: ModelFacts, answer: Placement) -> Way:
    return Way(words=words, spec=spec, facts=facts, evict=answer.evict, footprint=answer.footprint)
