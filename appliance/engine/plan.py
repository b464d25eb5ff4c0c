"""One step of the engine, decided by the scheduler and carried out by the runner."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.engine.sequence import Sequence
from appliance.types import TokenLogprob
from appliance.wire import Event


@dataclass(frozen=True, slots=True)
class KeepPrefix:
    """Forget what the KV cache holds of a slot from position `keep` on; 0 empties the slot."""

    slot: int
    keep: int


@dataclass(frozen=True, slots=True)
class BatchItem:
    """Tokens of one sequence at consecutive positions from `start`. sample: draw the token that follows the last."""

    sequence: Sequence
    slot: int
    start: int
    tokens: list[int]
    sample: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What one step does, in this order: the events go out, the cache is cut, the items run as one batch.

    Items are ordered by slot and hold at least one token each; a plan without items needs no step.
    """

    events: tuple[Event, ...]
    cache: tuple[KeepPrefix, ...]
    items: tuple[BatchItem, ...]

    @property
    def tokens(self) -> int:
        """Size of the batch."""
        return sum(len(item.tokens) for item in self.items)


@dataclass(frozen=True, slots=True)
class Sampled:
    """A drawn token. piece: its bytes in the text. is_end: it ends the answer (and has no text).

    logprob: what the request asked to know about it.
    """

    token: int
    piece: bytes
    is_end: bool
    logprob: TokenLogprob | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """The batch ran; one token for each item with `sample`, in order."""

    sampled: tuple[Sampled, ...]


@dataclass(frozen=True, slots=True)
class NoRoom:
    """The KV cache had no room for the batch; nothing of it was stored."""


@dataclass(frozen=True, slots=True)
class ReuseLost:
    """The cache of these slots could not be cut; they are empty now and the batch did not run."""

    slots: tuple[int, ...]


Outcome = Done | NoRoom | ReuseLost
