"""Whose turn it is: priority classes, then two-level fairness by virtual token counters.

The counters are those of Sheng et al., "Fairness in Serving Large Language Models" (OSDI 2024): everybody is charged
for the service they got, and the one who got least goes first. They are kept at two levels, between principals and
inside a principal between its flows. Who comes back after a pause starts no lower than the least served of those who
stayed: idleness earns no credit, and no pause pays off a debt.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

# Service is counted in prompt tokens. An answer's token weighs more: it needs a pass of the model to itself.
PROMPT_TOKEN: Final = 1.0
OUTPUT_TOKEN: Final = 2.0

# Counters of those who have nothing outstanding are remembered up to this many a level.
_REMEMBERED_MAX: Final = 4096


class Queued(Protocol):
    """What waits for its turn.

    number: its name, never used twice. flow: of one principal's requests those of each flow take turns. weight: the
    principal's share. priority: its class, lower first.
    """

    @property
    def number(self) -> int: ...

    @property
    def principal(self) -> str: ...

    @property
    def flow(self) -> str: ...

    @property
    def weight(self) -> float: ...

    @property
    def priority(self) -> int: ...


Q = TypeVar("Q", bound=Queued)


class _Counters:
    """One level: what each name was served, in weighted tokens over its weight."""

    def __init__(self) -> None:
        self._served: dict[str, float] = {}
        self._active: Counter[str] = Counter()
        self._last_left = 0.0

    def __getitem__(self, name: str) -> float:
        return self._served.get(name, 0.0)

    def arrive(self, name: str) -> None:
        """One more request of `name` is outstanding."""
        if not self._active[name]:
            floor = min((self[other] for other in self._active if self._active[other]), default=self._last_left)
            # Taken out and put in again, so that the dictionary's order is that of the last activity.
            self._served[name] = max(self._served.pop(name, 0.0), floor)
            self._forget()
        self._active[name] += 1

    def leave(self, name: str) -> None:
        """One request of `name` has ended."""
        self._active[name] -= 1
        if not self._active[name]:
            del self._active[name]
            self._last_left = self[name]

    def charge(self, name: str, cost: float) -> None:
        """`name` was served."""
        self._served[name] = self[name] + cost

    def _forget(self) -> None:
        for name in [name for name in self._served if name not in self._active][:-_REMEMBERED_MAX]:
            del self._served[name]


@dataclass(slots=True)
class _Principal(Generic[Q]):
    flows: _Counters = field(default_factory=_Counters)
    outstanding: int = 0
    # Waiting sequences by priority class and flow, each in order of arrival.
    waiting: dict[int, dict[str, deque[Q]]] = field(default_factory=dict)


class FairQueue(Generic[Q]):
    """The waiting sequences of a model, and the accounts of everybody who has something outstanding.

    A sequence `arrive`s once and `leave`s once; in between it is waiting (in this queue) or not.
    """

    def __init__(self) -> None:
        self._counters = _Counters()
        self._principals: dict[str, _Principal[Q]] = {}
        self._waiting: dict[int, Q] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Q]:
        """All waiting sequences, in no useful order."""
        return iter(self._waiting.values())

    def arrive(self, sequence: Q) -> None:
        """A new sequence waits, behind those of its flow."""
        self._counters.arrive(sequence.principal)
        principal = self._principals.setdefault(sequence.principal, _Principal())
        principal.outstanding += 1
        principal.flows.arrive(sequence.flow)
        self._line(sequence).append(sequence)
        self._waiting[sequence.number] = sequence

    def put_back(self, sequence: Q) -> None:
        """A sequence that ran waits again, in front of its flow."""
        self._line(sequence).appendleft(sequence)
        self._waiting[sequence.number] = sequence

    def find(self, number: int) -> Q | None:
        """The waiting sequence of that number."""
        return self._waiting.get(number)

    def take(self, sequence: Q) -> None:
        """A waiting sequence waits no longer."""
        del self._waiting[sequence.number]
        classes = self._principals[sequence.principal].waiting
        lines = classes[sequence.priority]
        lines[sequence.flow].remove(sequence)
        if not lines[sequence.flow]:
            del lines[sequence.flow]
        if not lines:
            del classes[sequence.priority]

    def leave(self, sequence: Q) -> None:
        """A sequence that is not waiting has ended."""
        self._counters.leave(sequence.principal)
        principal = self._principals[sequence.principal]
        principal.flows.leave(sequence.flow)
        principal.outstanding -= 1
        if principal.outstanding == 0:
            # Inside a principal that has nothing left, everybody starts anew.
            del self._principals[sequence.principal]

    def charge(self, sequence: Q, cost: float) -> None:
        """Service for a sequence, in prompt tokens; negative gives back what was charged in advance."""
        self._counters.charge(sequence.principal, cost / sequence.weight)
        if (principal := self._principals.get(sequence.principal)) is not None:
            principal.flows.charge(sequence.flow, cost)

    def served(self, principal: str) -> float:
        """What a principal was served so far, in prompt tokens over its weight."""
        return self._counters[principal]

    def served_flow(self, sequence: Q) -> float:
        """What a sequence's flow was served, in prompt tokens, since its principal last had nothing outstanding."""
        return self._principals[sequence.principal].flows[sequence.flow]

    def in_order(self, without: Collection[tuple[str, int, str | None]] = ()) -> Iterator[Q]:
        """Waiting sequences, the one whose turn it is first. The queue must not change meanwhile.

        without: principals, each in one class, of whom a flow, or with None all, are left out; may grow meanwhile.
        """
        classes = sorted({priority for principal in self._principals.values() for priority in principal.waiting})
        for priority in classes:
            names = [name for name, principal in self._principals.items() if priority in principal.waiting]
            for name in sorted(names, key=self.served):
                principal = self._principals[name]
                lines = principal.waiting[priority]
                for flow in sorted(lines, key=lambda flow: (principal.flows[flow], lines[flow][0].number)):
                    for sequence in lines[flow]:
                        if (name, priority, flow) in without or (name, priority, None) in without:
                            break
                        yield sequence

    def _line(self, sequence: Q) -> deque[Q]:
        classes = self._principals[sequence.principal].waiting
        return classes.setdefault(sequence.priority, {}).setdefault(sequence.flow, deque())
