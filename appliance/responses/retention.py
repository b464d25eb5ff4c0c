"""How long kept responses stay: so many days, and no more than so many bytes. Pure."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable

from appliance.access_config import Responses
from appliance.responses.files import Kept

DAY_SECONDS = 86_400
# What is left once room had to be made, so that not every further one has to make room again.
_LEFT_SHARE = 0.9


def has_expired(made: int, now: float, settings: Responses) -> bool:
    """Whether a response of that time is one no more."""
    return now - made >= settings.retention_days * DAY_SECONDS


def plan(kept: Iterable[Kept], now: float, settings: Responses, need: int = 0) -> list[Kept]:
    """What must go: what has expired; then, where `need` bytes have no room, the oldest of who keeps most."""
    going, by_owner = [], defaultdict[str, list[Kept]](list)
    total = 0
    for each in kept:
        if has_expired(each.made, now, settings):
            going.append(each)
        else:
            by_owner[each.owner].append(each)
            total += each.size
    if total + need <= settings.disk_bytes_max:
        return going
    for mine in by_owner.values():
        mine.sort(key=lambda each: each.made, reverse=True)
    largest = [(-sum(each.size for each in mine), owner) for owner, mine in by_owner.items()]
    heapq.heapify(largest)
    while largest and total + need > settings.disk_bytes_max * _LEFT_SHARE:
        size, owner = heapq.heappop(largest)
        oldest = by_owner[owner].pop()
        going.append(oldest)
        total -= oldest.size
        if by_owner[owner]:
            heapq.heappush(largest, (size + oldest.size, owner))
    return going
