"""One step of the engine, decided by the scheduler and carried out by the runner."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.engine.advance import Advance, Sampled
from appliance.engine.sequence import Sequence
from appliance.types import TokenLogprob
from appliance.wire import Event


@dataclass(frozen=True, slots=True)
class KeepPrefix:
    """Forget what the KV cache holds of a slot from position `keep` on; 0 empties the slot."""

    slot: int
    keep: int


@dataclass(frozen=True, slots=True)
class CopyPrefix:
    """An empty slot gets the first `keep` positions of another one, which may be running."""

    source: int
    slot: int
    keep: int


@dataclass(frozen=True, slots=True)
class SaveState:
    """Copy what a slot holds to host memory, for the preempted request of that number."""

    slot: int
    number: int


@dataclass(frozen=True, slots=True)
class RestoreState:
    """An empty slot gets back the `keep` tokens that were saved for the request of that number."""

    slot: int
    number: int
    keep: int


@dataclass(frozen=True, slots=True)
class SwapSlots:
    """Two slots exchange what they hold."""

    slot: int
    other: int


CacheOp = KeepPrefix | CopyPrefix | SaveState | RestoreState | SwapSlots


@dataclass(frozen=True, slots=True)
class BatchItem:
    """Tokens of one sequence at consecutive positions from `start`. sample: draw the token that follows the last.

    scores: tokens of the sequence, by their place in it, whose probability is told by what the batch computes.
    """

    sequence: Sequence
    slot: int
    start: int
    tokens: list[int]
    sample: bool
    scores: range = range(0)

    @property
    def outputs(self) -> list[int]:
        """Which of its tokens want logits, by their place in the item, ascending: that before each scored one, and the
        last where the next one is drawn."""
        before = [token - 1 - self.start for token in self.scores if token > 0]
        return [*before, len(self.tokens) - 1] if self.sample else before


@dataclass(frozen=True, slots=True)
class Plan:
    """What one step does, in this order: the events go out, the cache is changed, the items run as one batch.

    Items are ordered by slot and hold at least one token each; a plan without items needs no step. decoding: the batch
    is the next token of sequences that decode; else it is pieces of prompts.
    """

    events: tuple[Event | Advance, ...]
    cache: tuple[CacheOp, ...]
    items: tuple[BatchItem, ...]
    decoding: bool = False

    @property
    def tokens(self) -> int:
        """Size of the batch."""
        return sum(len(item.tokens) for item in self.items)


@dataclass(frozen=True, slots=True)
class Done:
    """The batch ran; one token for each item with `sample`, in order.

    device_seconds: from the batch's launch to its end. scored: for each item with `scores`, in order, what it scores.
    """

    sampled: tuple[Sampled, ...]
    device_seconds: float = 0.0
    scored: tuple[tuple[TokenLogprob, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class NoRoom:
    """The KV cache had no room for the batch; nothing of it was stored."""


@dataclass(frozen=True, slots=True)
class ReuseLost:
    """The cache of these slots could not be cut, copied or restored; they are empty now and the batch did not run."""

    slots: tuple[int, ...]


Outcome = Done | NoRoom | ReuseLost
