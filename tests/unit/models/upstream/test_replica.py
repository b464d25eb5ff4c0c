"""appliance.models.upstream.replica"""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.models.upstream.replica import SILENT_PROBES_MAX, Replica, least_busy
from appliance.upstream_spec import ReplicaAccess, UpstreamReplica


def replica(url: str = "https://a.example:8000/v1/") -> Replica:
    return Replica(UpstreamReplica(base_url=url), ReplicaAccess)


def test_its_addresses() -> None:
    one = replica()
    assert (one.base_url, one.origin) == ("https://a.example:8000/v1", "https://a.example:8000")


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.booleans()), max_size=6))
def test_who_is_asked(states: list[tuple[int, bool, bool]]) -> None:
    replicas, tried = [], []
    for busy, up, was_tried in states:
        one = replica()
        one.busy = busy
        if not up:
            one.failed("down")
        replicas.append(one)
        if was_tried:
            tried.append(one)
    chosen = least_busy(replicas, tried)
    free = [one for one in replicas if one.up and one not in tried]
    if chosen is None:
        assert not free
    else:
        assert chosen in free
        assert all(chosen.busy <= one.busy for one in free)


def test_pauses_grow_and_are_bounded() -> None:
    one = replica()
    pauses = []
    for _ in range(6):
        one.failed("down")
        pauses.append(one.pause_seconds(10))
    assert pauses == [1, 2, 4, 8, 10, 10]
    one.answered()
    assert one.pause_seconds(10) == 10
    one.failed("again")
    assert one.pause_seconds(10) == 1


def test_one_that_works_may_miss_some_probes() -> None:
    one = replica()
    one.answered()
    assert [one.silent("slow") for _ in range(SILENT_PROBES_MAX)] == [False] * (SILENT_PROBES_MAX - 1) + [True]
    assert not one.up
    fresh = replica()
    assert fresh.silent("slow")


def test_only_what_is_new_is_news() -> None:
    one = replica()
    assert one.answered()
    assert not one.answered()
    assert one.failed("a")
    assert not one.failed("a")
    assert one.failed("b")
    assert one.answered()


@pytest.mark.parametrize("up", [True, False])
async def test_a_nap_ends_early_where_it_fails_meanwhile(up: bool) -> None:
    one = replica()
    one.answered()
    if not up:
        one.failed("down")
    began = time.monotonic()
    napping = asyncio.gather(one.nap(60.0 if up else 0.1))
    await asyncio.sleep(0.01)
    if up:
        one.failed("down")
    await napping
    assert time.monotonic() - began < 30
