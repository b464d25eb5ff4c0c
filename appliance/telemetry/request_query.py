"""Questions to the request log: a page of it, one request, what was used. Blocking; on a reader's connection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from typing import Final, Literal

from msgspec import Struct

from appliance.store.connection import Connection
from appliance.telemetry.request_columns import micros, seconds
from appliance.telemetry.request_filter import Condition, Parameter, RequestFilter
from appliance.telemetry.request_record import RequestRecord
from appliance.telemetry.request_table import SELECTED, record_of

PAGE_MAX: Final = 1_000
# How long a page looks for records where none come; then it says how far it has got.
SCAN_SECONDS: Final = 0.05
USAGE_ROWS_MAX: Final = 10_000
_SCANNED_AT_ONCE: Final = 20_000
# A condition that at most so many rows meet is looked up, not scanned for.
_LOOKED_UP_MAX: Final = 15_000
_DAY: Final = 86_400_000_000
_EPOCH: Final = date(1970, 1, 1).toordinal()

UsageBy = Literal["principal", "model", "day"]
# A row's number, and what it holds.
_Row = tuple[int, RequestRecord]


class Page(Struct, frozen=True, kw_only=True):
    """Records, newest first, as they were written. before: for the next page; None where there is none.

    A page may have fewer records than were asked for, or none, and yet not be the last one.
    """

    records: Sequence[RequestRecord]
    before: int | None


class Usage(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The requests of one principal, model and day (UTC), as far as was asked for; copies for trials aside.

    cached_share: of the prompt tokens. ttft: seconds. principal, model: None where none was known.
    """

    principal: str | None = None
    model: str | None = None
    day: str | None = None
    requests: int
    ok: int
    refused: int
    failed: int
    client_gone: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    cached_share: float | None = None
    ttft_p50: float | None = None
    ttft_p95: float | None = None


def page(
    connection: Connection,
    wanted: RequestFilter,
    *,
    now: float,
    limit: int,
    before: int | None = None,
    monotonic: Callable[[], float],
) -> Page:
    """The newest `limit` records that the filter takes, of those before the row `before`.

    First the newest rows are looked at, where most filters find enough. Then what meets every rare condition that an
    index serves is looked up; where none is rare, rows are scanned on, for SCAN_SECONDS.
    """
    where, parameters = wanted.where(now)
    # Each by itself is read off the table's ends.
    oldest, newest = connection.execute(
        "SELECT (SELECT min(seq) FROM requests), (SELECT max(seq) FROM requests)"
    ).fetchone()
    if newest is None:
        return Page(records=(), before=None)
    top = newest if before is None else min(newest, before - 1)
    found: list[_Row] = []
    deadline, looked_up = monotonic() + SCAN_SECONDS, False
    while top >= oldest and len(found) < limit and monotonic() < deadline:
        bottom, missing = top - _SCANNED_AT_ONCE + 1, limit - len(found)
        found += _scan(connection, where, parameters, bottom, top, missing)
        top = bottom - 1
        if looked_up or top < oldest or len(found) == limit:
            continue
        looked_up = True
        if rare := _rare(connection, wanted.conditions(now), top):
            found += _look_up(connection, rare, where, parameters, top, limit - len(found))
            top = oldest - 1
    if len(found) == limit:
        top = found[-1][0] - 1
    return Page(records=[record for _, record in found], before=top + 1 if top >= oldest else None)


def find(connection: Connection, ids: Sequence[str]) -> RequestRecord | None:
    """The newest request with one of these ids, mirrored copies aside."""
    marks = ", ".join("?" * len(ids))
    row = connection.execute(
        f"SELECT {SELECTED} FROM requests WHERE id IN ({marks}) AND NOT mirrored ORDER BY +seq DESC LIMIT 1", tuple(ids)
    ).fetchone()
    return None if row is None else record_of(row)


def usage(connection: Connection, since: float, until: float, by: Sequence[UsageBy]) -> list[Usage]:
    """Of the requests that arrived in this time, by every combination of `by` that there is, most requests first.

    At most USAGE_ROWS_MAX rows. Reads all requests of the time: some six seconds of a core for a million.
    """
    columns = {"principal": "principal", "model": "model", "day": f"time / {_DAY}"}
    keys = [columns[one] for one in by] or ["1"]
    group, during = ", ".join(keys), (micros(since), micros(until))
    numbers = {text: number for number, text in connection.execute("SELECT id, text FROM names")}
    names = {number: text for text, number in numbers.items()}
    outcomes = [numbers.get(outcome, 0) for outcome in ("ok", "refused", "failed", "client_gone")]
    sums = connection.execute(
        f"""
        SELECT {group}, count(*), {", ".join(f"sum(outcome = {number})" for number in outcomes)},
            sum(prompt), sum(cached), sum(completion)
        FROM requests WHERE time >= ? AND time < ? AND NOT mirrored
        GROUP BY {", ".join(map(str, range(1, len(keys) + 1)))} ORDER BY count(*) DESC LIMIT {USAGE_ROWS_MAX}
        """,
        during,
    ).fetchall()
    # By nearest rank, as telemetry.quantile.
    ranks = "n IN (min(count - 1, count / 2), min(count - 1, count * 95 / 100))"
    quantiles = connection.execute(
        f"""
        SELECT {", ".join(f"key{place}" for place in range(len(keys)))}, min(ttft), max(ttft) FROM (
            SELECT {", ".join(f"{key} AS key{place}" for place, key in enumerate(keys))}, ttft,
                row_number() OVER (PARTITION BY {group} ORDER BY ttft) - 1 AS n,
                count(*) OVER (PARTITION BY {group}) AS count
            FROM requests WHERE time >= ? AND time < ? AND NOT mirrored AND ttft IS NOT NULL
        ) WHERE {ranks} GROUP BY {", ".join(map(str, range(1, len(keys) + 1)))}
        """,
        during,
    )
    ttft = {tuple(row[:-2]): (seconds(row[-2]), seconds(row[-1])) for row in quantiles}
    rows = []
    for row in sums:
        key, (count, ok, refused, failed, gone, prompt, cached, completion) = tuple(row[: len(keys)]), row[len(keys) :]
        of = dict(zip(by, key, strict=False))
        p50, p95 = ttft.get(key, (None, None))
        rows.append(
            Usage(
                principal=names.get(of.get("principal") or 0),
                model=names.get(of.get("model") or 0),
                day=None if "day" not in of else date.fromordinal(_EPOCH + of["day"]).isoformat(),
                requests=count,
                ok=ok,
                refused=refused,
                failed=failed,
                client_gone=gone,
                prompt_tokens=prompt,
                cached_tokens=cached,
                completion_tokens=completion,
                cached_share=cached / prompt if prompt else None,
                ttft_p50=p50,
                ttft_p95=p95,
            )
        )
    return rows


def _rare(connection: Connection, conditions: Sequence[Condition], top: int) -> list[Condition]:
    """The conditions that few rows up to `top` meet."""
    rare = []
    for condition in conditions:
        if condition.indexed:
            rows, parameters = _on_indexes(condition, top)
            counted = f"SELECT count(*) FROM ({rows} LIMIT ?)"
            if connection.execute(counted, (*parameters, _LOOKED_UP_MAX + 1)).fetchone()[0] <= _LOOKED_UP_MAX:
                rare.append(condition)
    return rare


def _on_indexes(condition: Condition, top: int) -> tuple[str, tuple[Parameter, ...]]:
    """A SELECT of the rows up to `top` that meet a condition, some of them twice, from indexes alone."""
    # The `+` keeps SQLite from reading rows in their order, which is what is to be avoided.
    each = (f"SELECT seq FROM requests WHERE {one.sql} AND +seq <= ?" for one in condition.indexed)
    return " UNION ALL ".join(each), tuple(value for one in condition.indexed for value in (*one.parameters, top))


def _scan(
    connection: Connection, where: str, parameters: Sequence[Parameter], bottom: int, top: int, limit: int
) -> list[_Row]:
    """Row by row, the newest first. An index would have to read more, or sort."""
    return _rows(connection, f"seq BETWEEN ? AND ? AND {where}", (bottom, top, *parameters), limit)


def _look_up(
    connection: Connection,
    rare: Sequence[Condition],
    where: str,
    parameters: Sequence[Parameter],
    top: int,
    limit: int,
) -> list[_Row]:
    """Of the few rows up to `top` that meet these conditions."""
    each = [_on_indexes(one, top) for one in rare]
    few = " INTERSECT ".join(f"SELECT seq FROM ({rows})" for rows, _ in each)
    of_few = [value for _, values in each for value in values]
    return _rows(connection, f"seq IN ({few}) AND {where}", (*of_few, *parameters), limit)


def _rows(connection: Connection, where: str, parameters: Sequence[Parameter], limit: int) -> list[_Row]:
    rows = connection.execute(
        f"SELECT {SELECTED} FROM requests NOT INDEXED WHERE {where} ORDER BY seq DESC LIMIT ?", (*parameters, limit)
    )
    return [(row[0], record_of(row)) for row in rows]
