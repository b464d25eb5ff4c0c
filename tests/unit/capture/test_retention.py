"""What goes, and when."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.access_config import Capture
from appliance.capture.day_file import DayFile, claim
from appliance.capture.retention import plan, prune
from tests.unit.capture.making import NOON, Site, exchange

TODAY = date(2026, 11, 25)


def aged(days: int, number: int = 1) -> DayFile:
    return DayFile(TODAY - timedelta(days=days), number)


def test_a_day_goes_after_so_many_whole_days() -> None:
    files = [(aged(days), 10) for days in range(5)]
    settings = Capture(retention_days=2, disk_bytes_max=2**20)
    assert plan(files, TODAY, settings) == [(aged(4), 10), (aged(3), 10)]


def test_the_oldest_go_first_for_room() -> None:
    files = [(aged(0, 2), 400), (aged(1), 500), (aged(0, 1), 300)]
    settings = Capture(disk_bytes_max=1024)
    assert plan(files, TODAY, settings, 0) == [(aged(1), 500)]
    assert plan(files, TODAY, settings, 400) == [(aged(1), 500), (aged(0, 1), 300)]
    assert len(plan(files, TODAY, settings, 2000)) == 3


@given(
    files=st.lists(st.tuples(st.builds(aged, st.integers(0, 20), st.integers(1, 9)), st.integers(0, 2000))),
    days=st.integers(1, 20),
    room=st.integers(1024, 9000),
    need=st.integers(0, 3000),
)
def test_what_stays_is_young_and_fits_and_nothing_goes_without_need(
    files: list[tuple[DayFile, int]], days: int, room: int, need: int
) -> None:
    settings = Capture(retention_days=days, disk_bytes_max=room)
    going = plan(files, TODAY, settings, need)
    ordered = sorted(files)
    assert going == ordered[: len(going)]
    stays = ordered[len(going) :]
    assert all((TODAY - file.day).days <= days for file, _ in stays)
    assert not stays or sum(size for _, size in stays) + need <= room
    if going:
        last, size = going[-1]
        assert (TODAY - last.day).days > days or sum(size for _, size in stays) + size + need > room


def test_pruning_leaves_what_is_in_use(site: Site) -> None:
    assert prune(site.folder, TODAY, Capture()) == 0
    for _ in range(3):
        site.write(exchange())
        site.clock.advance(days=1)
    first, second, third = site.paths
    held = claim(first)
    assert held is not None
    with held:
        left = prune(site.folder, NOON.date() + timedelta(days=9), Capture(retention_days=7))
    assert site.paths == [first, third]
    assert left == sum(path.stat().st_size for path in site.paths)
    assert second not in site.paths


@pytest.mark.parametrize("enabled", [True, False])
def test_what_was_captured_ages_out_also_when_it_is_off(site: Site, enabled: bool) -> None:
    site.write(exchange())
    capture = site.capture()
    site.clock.advance(days=7)
    capture.configure(Capture(enabled=enabled))
    capture.prune()
    assert site.ids() == ["r1"]
    site.clock.advance(days=1)
    capture.prune()
    capture.close()
    assert site.paths == []
