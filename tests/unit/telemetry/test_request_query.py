"""appliance.telemetry.request_query: pages go through all of it whatever serves them; usage adds up."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.store.connection import open_reader
from appliance.telemetry import request_query
from appliance.telemetry.quantile import quantile
from appliance.telemetry.request_filter import parse
from appliance.telemetry.request_query import Usage, find, page, usage
from appliance.telemetry.request_record import Outcome, RequestRecord
from appliance.telemetry.request_table import MIGRATIONS
from tests.unit.telemetry.making import record, write

OUTCOMES = get_args(Outcome)


@cache
def made(number: int) -> RequestRecord:
    return record(
        number,
        status=(200, 401, 503)[number % 97 % 3 if number % 97 == 0 else 0],
        model=f"m{number % 3}",
        principal=f"p{number % 50}",
        address=f"10.0.{number % 7}.1",
        ttft_seconds=None if number % 5 == 0 else number / 1000,
        outcome=OUTCOMES[number % 4],
        mirrored=number % 11 == 0,
    )


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("log"), *map(made, range(600)))


def paged(path: Path, text: str, limit: int, seconds: float = 0.0) -> tuple[list[int], int]:
    """The numbers of all records that a filter takes, and of how many pages they came."""
    clock = itertools.count(step=seconds)
    found: list[RequestRecord] = []
    before: int | None = None
    pages = 0
    while pages == 0 or before is not None:
        pages += 1
        with open_reader(path, MIGRATIONS) as connection:
            one = page(connection, parse(text), now=600, limit=limit, before=before, monotonic=lambda: next(clock))
        assert len(one.records) <= limit
        found += one.records
        before = one.before
    return [int(each.id[1:]) for each in found], pages


FILTERS = [
    "",
    "st>=400",
    "st:401 model:m1",
    "principal:p7",
    "model:m",
    "none",
    "dur>5",
    "ip:10.0.3.0/24 !key:p1",
    "since:100s",
    "until:500s",
    "ttft>0.5 ttft<0.51",
    "id:r59",
    "!model:m0 outcome:ok",
    "!st:200",
]


@pytest.mark.parametrize("text", FILTERS)
@pytest.mark.parametrize(("scanned", "looked_up"), [(20_000, 5_000), (50, 5_000), (50, 3), (7, 0)])
@pytest.mark.parametrize("limit", [1000, 9])
def test_pages_go_through_all_of_it(
    path: Path, text: str, scanned: int, looked_up: int, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_query, "_SCANNED_AT_ONCE", scanned)
    monkeypatch.setattr(request_query, "_LOOKED_UP_MAX", looked_up)
    wanted = parse(text)
    assert paged(path, text, limit)[0] == [n for n in range(599, -1, -1) if wanted.matches(made(n), 600)]


def test_a_page_that_takes_too_long_says_how_far_it_got(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_query, "_SCANNED_AT_ONCE", 50)
    found, pages = paged(path, "stream:yes", 100, seconds=0.04)
    assert (found, pages) == ([], 12)
    found, pages = paged(path, "!model:m0", 100, seconds=0.04)
    assert len(found) == 400 and pages > 4


def test_an_empty_log(tmp_path: Path) -> None:
    assert paged(tmp_path / "requests.db", "st:200", 10) == ([], 1)
    with open_reader(tmp_path / "requests.db", MIGRATIONS) as connection:
        assert (find(connection, ["a"]), usage(connection, 0, 1, ("model",))) == (None, [])


def test_the_newest_request_of_an_id(tmp_path: Path) -> None:
    records = [record(1, id="a"), record(2, id="b"), record(3, id="a", status=500), record(4, id="a", mirrored=True)]
    with open_reader(write(tmp_path, *records), MIGRATIONS) as connection:
        assert find(connection, ["a"]) == records[2]
        assert find(connection, ["b", "x"]) == records[1]
        assert find(connection, ["A"]) is None


@pytest.mark.parametrize("by", [(), ("model",), ("principal", "model"), ("principal", "model", "day"), ("day",)])
def test_usage_adds_up(path: Path, by: Sequence[request_query.UsageBy]) -> None:
    with open_reader(path, MIGRATIONS) as connection:
        rows = usage(connection, 100, 500.5, by)
    asked = [made(n) for n in range(100, 501) if n % 11]
    assert sum(row.requests for row in rows) == len(asked)
    assert [row.requests for row in rows] == sorted((row.requests for row in rows), reverse=True)
    for row in rows:
        of = [one for one in asked if all(getattr(one, name) == getattr(row, name) for name in by if name != "day")]
        assert row == expected(of, row)


def expected(of: list[RequestRecord], row: Usage) -> Usage:
    ttft = sorted(one.ttft_seconds for one in of if one.ttft_seconds is not None)
    counts = {outcome: sum(one.outcome == outcome for one in of) for outcome in OUTCOMES}
    return Usage(
        principal=row.principal,
        model=row.model,
        day=row.day and "1970-01-01",
        requests=len(of),
        prompt_tokens=10 * len(of),
        cached_tokens=4 * len(of),
        completion_tokens=5 * len(of),
        cached_share=0.4,
        ttft_p50=quantile(ttft, 0.5),
        ttft_p95=quantile(ttft, 0.95),
        **counts,
    )


@settings(max_examples=20)
@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=30))
def test_quantiles_are_those_of_telemetry(tmp_path_factory: pytest.TempPathFactory, values: list[int]) -> None:
    records = [record(n, ttft_seconds=value / 1000) for n, value in enumerate(values)]
    with open_reader(write(tmp_path_factory.mktemp("log"), *records), MIGRATIONS) as connection:
        (row,) = usage(connection, 0, 100, ())
    ordered = sorted(value / 1000 for value in values)
    assert (row.ttft_p50, row.ttft_p95) == (quantile(ordered, 0.5), quantile(ordered, 0.95))
