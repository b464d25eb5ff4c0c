"""The list of requests goes on with what the request log has."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tui.driving import Driven, driven, frozen
from tui.demo.scenario import scenario_of
from tui.demo.source import FROZEN_MOMENT, DemoSource
from tui.demo.world import World
from tui.screens.requests import Requests


def requests_of(made: Driven) -> Requests:
    return made.app.query_one(Requests)


async def test_the_end_of_the_list_goes_on_with_older_requests_from_the_log() -> None:
    async with driven(frozen("slow"), size=(120, 30)) as made:
        await made.press("3", "G")
        ring = requests_of(made).rows.ring
        own, last = ring.total, requests_of(made).rows.selected
        assert last is not None
        assert "the oldest one here" in made.lines()[-2]
        await made.press("j")
        first = ring.older
        # What a page repeats of the list is left out.
        assert 300 < first <= 500
        assert f"{own + first} ({first} older)" in made.text().replace(",", "")
        ids = [record.id for record in ring]
        assert len(set(ids)) == len(ids)
        ends = [record.time + record.total_seconds for record in ring]
        assert max(ends[:first]) < min(ends[first:]) + 3
        # The cursor stayed where it was, and goes on.
        assert requests_of(made).rows.selected is last
        await made.press("j", "o")
        assert ring.older >= first + 500
        await made.press("f")
        assert (ring.older, ring.total) == (0, own)


@pytest.mark.slow
async def test_older_requests_are_those_that_the_filter_takes() -> None:
    async with driven(frozen("slow"), size=(120, 30)) as made:
        await made.press("3", "slash")
        await made.press(*"st>=500")
        await made.press("enter")
        ring = requests_of(made).rows.ring
        shown = len(ring)
        await made.press("o")
        assert len(ring) > shown
        assert all(ring.row(ring.number_at(place)).status >= 500 for place in range(len(ring)))
        # Another filter would want others.
        await made.press("escape")
        assert ring.older == 0


@pytest.mark.slow
async def test_what_is_not_older_is_said() -> None:
    class Short(DemoSource):
        async def ask(self, path: str, **query: str | int | None) -> Any:
            if path.startswith("/requests"):
                return {"requests": [], "before": None}
            return await super().ask(path, **query)

    source = Short(1, "slow", now=lambda: FROZEN_MOMENT, frozen=True, history_seconds=5)
    async with driven(source) as made:
        await made.press("3", "o")
        assert "there are no older ones" in made.lines()[-2]


@pytest.mark.slow
async def test_a_failure_that_the_list_has_not_any_more_is_fetched() -> None:
    async with driven(frozen("slow")) as made:
        old = next(World(1, scenario_of("slow"), FROZEN_MOMENT).requests(int(FROZEN_MOMENT) - 3000))
        requests_of(made).find(old.id)
        await made.press("3")
        assert requests_of(made).rows.selected == old
