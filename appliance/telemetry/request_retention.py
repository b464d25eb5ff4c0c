"""How long the request log keeps its records: by days, and by the bytes of its file. Blocking; the writer's chore.

A step is small, so that records are written between two of them.
"""

from __future__ import annotations

from typing import Final

from appliance.store.connection import Connection, figure, used_bytes
from appliance.telemetry.key_hours import prune_hours
from appliance.telemetry.request_columns import micros

_AT_ONCE: Final = 200
_PAGES_AT_ONCE: Final = 500
# Of bytes_max, what may be in use; so much is free for what comes until the next step.
_USED_MAX: Final = 0.95


def prune(connection: Connection, *, now: float, retention_days: float, bytes_max: int) -> bool:
    """Removes some of what is kept no longer, the oldest first. Whether there may be more.

    Pages that become free are used again; the file shrinks where it is larger than bytes_max.
    """
    # Without an order, so that an index finds them: there are none, as a rule.
    oldest = ("SELECT seq FROM requests WHERE time < ? LIMIT ?", (micros(now - retention_days * 86_400), _AT_ONCE))
    more = _delete(connection, *oldest)
    more = prune_hours(connection, now) or more
    if used_bytes(connection) > bytes_max * _USED_MAX:
        more = _delete(connection, "SELECT seq FROM requests ORDER BY seq LIMIT ?", (_AT_ONCE,)) or more
    if figure(connection, "page_count") * figure(connection, "page_size") > bytes_max:
        connection.execute(f"PRAGMA incremental_vacuum({_PAGES_AT_ONCE})").fetchall()
        more = more or figure(connection, "freelist_count") > 0
    return more


def _delete(connection: Connection, which: str, parameters: tuple[int, ...]) -> bool:
    rows = connection.execute(which, parameters).fetchall()
    for table in ("requests", "evidence"):
        connection.executemany(f"DELETE FROM {table} WHERE seq = ?", rows)
    return len(rows) == _AT_ONCE
