"""Which running sequence must wait so that another one can run.

Pure. Shares count running sequences of one priority class; a share is only taken from who keeps at least as large a one
and was served at least as much, so that nobody takes back at once what was taken from them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from collections.abc import Sequence as Items

from appliance.engine.fair_queue import FairQueue
from appliance.engine.sequence import Sequence
from appliance.engine.slots import Slot, sequence_in


def youngest(slots: Iterable[Slot]) -> Slot:
    """Of the running sequences of the lowest class, the one that arrived last; there is at least one."""
    return max(slots, key=lambda slot: (sequence_in(slot).priority, sequence_in(slot).number))


def victim_for(sequence: Sequence, slots: Items[Slot], queue: FairQueue[Sequence]) -> Slot | None:
    """The one of these running sequences that must make room for a waiting one; None where none must.

    It is of a lower class; or of its own class and of a principal that has more than its share, by weight; or of its
    own principal and of a flow that has more than its share.
    """
    if not slots:
        return None
    if sequence_in(last := youngest(slots)).priority > sequence.priority:
        return last
    rivals = [slot for slot in slots if sequence_in(slot).priority == sequence.priority]
    own = [slot for slot in rivals if sequence_in(slot).principal == sequence.principal]
    return _from_larger_share(
        sequence,
        rivals,
        name=lambda each: each.principal,
        weight=lambda each: each.weight,
        served=lambda each: queue.served(each.principal),
    ) or _from_larger_share(
        sequence, own, name=lambda each: each.flow, weight=lambda each: 1.0, served=queue.served_flow
    )


def _from_larger_share(
    sequence: Sequence,
    rivals: Items[Slot],
    *,
    name: Callable[[Sequence], str],
    weight: Callable[[Sequence], float],
    served: Callable[[Sequence], float],
) -> Slot | None:
    """The youngest rival of who runs most, among those whose share stays as large as the sequence's would be."""
    running = Counter(name(sequence_in(slot)) for slot in rivals)
    share = (running[name(sequence)] + 1) / weight(sequence)
    over = [
        slot
        for slot in rivals
        if name(each := sequence_in(slot)) != name(sequence)
        and (running[name(each)] - 1) / weight(each) >= share
        and served(each) >= served(sequence)
    ]
    return max(over, key=lambda slot: (running[name(sequence_in(slot))], sequence_in(slot).number), default=None)
