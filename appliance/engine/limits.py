"""What a model's context can hold and compute."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.engine.slots import PrefixReuse


@dataclass(frozen=True, slots=True)
class Limits:
    """parallel: sequences that run at once. n_slots: llama.cpp's sequence ids; those beyond `parallel` hold residents.

    n_cells: KV cells of all slots. n_ctx: cells one sequence may use. n_batch: tokens of a step, at least `parallel`.
    n_ubatch: tokens of a step of prompts beside sequences that decode. saves: there is host memory for what
    preempted sequences hold. split: every slot has n_ctx cells of its own. scored_max: tokens of prompts in a step that
    each want a row of logits.
    """

    parallel: int
    n_slots: int
    n_cells: int
    n_ctx: int
    n_batch: int
    n_ubatch: int
    reuse: PrefixReuse = "any"
    saves: bool = True
    split: bool = False
    scored_max: int = 64

    def __post_init__(self) -> None:
        assert self.parallel <= self.n_slots, "every running sequence has a slot"
        assert self.parallel <= self.n_batch, "every running sequence must be able to decode in one step"
        assert self.n_ctx <= self.n_cells, "one sequence must always fit"
        assert not self.split or self.n_ctx * self.n_slots <= self.n_cells, "every slot has its own cells"
