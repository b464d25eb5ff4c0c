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
from appliance.engine.slots import Slot


def youngest(slots: Iterable[Slot]) -> Slot:
    """Of the running sequences of the lowest class, the one that arrived last; there is at least one."""
    return max(slots, key=lambda slot: (_runs(slot).priority, _runs(slot).number))


def victim_for(sequence: Sequence, slots: Items[Slot], queue: FairQueue) -> Slot | None:
    """The one of these running sequences that must make room for a waiting one; None where none must.

    It is of a lower class; or of its own class and of a principal that has more than its share, by weight; or of its
    own principal and of a flow that has more than its share.
    """
    if not slots:
        return None
    if _runs(last := youngest(slots)).priority > sequence.priority:
        return last
    rivals = [slot for slot in slots if _runs(slot).priority == sequence.priority]
    own = [slot for slot in rivals if _runs(slot).principal == sequence.principal]
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
    running = Counter(name(_runs(slot)) for slot in rivals)
    share = (running[name(sequence)] + 1) / weight(sequence)
    over = [
        slot
        for slot in rivals
        if name(each := _runs(slot)) != name(sequence)
        and (running[name(each)] - 1) / weight(each) >= share
        and served(each) >= served(sequence)
    ]
    return max(over, key=lambda slot: (running[name(_runs(slot))], _runs(slot).number), default=None)


def _runs(slot: Slot) -> Sequence:
    assert slot.sequence is not None, "only running sequences can make room"
    return slot.sequence
