"""Figures as they are read."""

from __future__ import annotations

from datetime import UTC, timedelta, timezone

import pytest

from tui import units


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, "-"), (0.0, "0ms"), (0.022, "22ms"), (0.0996, "0.10s"), (0.31, "0.31s"), (14.23, "14.2s"), (120.0, "120s")],
)
def test_seconds(value: float | None, said: str) -> None:
    assert units.seconds(value) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, "-"), (311, "311"), (999.6, "1.0k"), (2140, "2.1k"), (152_000, "152k"), (1_900_000, "1.9M")],
)
def test_count(value: float | None, said: str) -> None:
    assert units.count(value) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, "-"), (12.9, "12s"), (120, "2m"), (22_320, "6h"), (187_200, "2d04h"), (88 * 86_400, "88d")],
)
def test_duration(value: float | None, said: str) -> None:
    assert units.duration(value) == said


def test_sizes() -> None:
    assert units.gib(int(18.4 * 2**30)) == "18.4"
    assert units.short_gib(201 * 2**30) == "201G"
    assert units.short_gib(None) == "-"
    assert units.context(32768) == "32k"


def test_moments_have_their_offset() -> None:
    moment = 1_795_115_655.0
    assert units.stamp(moment, timezone(timedelta(hours=8))) == "2026-11-20 03:14:15+08"
    assert units.stamp(moment, timezone(timedelta(hours=5, minutes=30))) == "2026-11-20 00:44:15+05:30"
    assert units.clock(moment, UTC) == "19:14:15"
