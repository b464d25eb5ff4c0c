"""How much each API key was used, by the hour: kept beside the rows of the request log, so that nobody adds up a day.

Blocking. An hour is of UTC. What is older than a day is forgotten, whatever the request log keeps.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from appliance.store.connection import Connection
from appliance.telemetry.request_columns import micros
from appliance.telemetry.request_record import RequestRecord

HOURS: Final = 24
_HOUR: Final = 3_600
_HOUR_MICROS: Final = micros(_HOUR)
_PRUNED_AT_ONCE: Final = 200

# The second statement counts what an older release has written; all of it, and `prune` takes away what is old.
CREATE: Final = (
    """
    CREATE TABLE key_hours (
        hour INTEGER NOT NULL,
        key_id INTEGER NOT NULL,
        requests INTEGER NOT NULL,
        refused INTEGER NOT NULL,
        failed INTEGER NOT NULL,
        prompt INTEGER NOT NULL,
        completion INTEGER NOT NULL,
        PRIMARY KEY (hour, key_id)
    ) STRICT, WITHOUT ROWID
    """,
    f"""
    INSERT INTO key_hours
    SELECT time / {_HOUR_MICROS}, key_id, count(*),
        sum(outcome IS (SELECT id FROM names WHERE text = 'refused')),
        sum(outcome IS (SELECT id FROM names WHERE text = 'failed')),
        sum(prompt), sum(completion)
    FROM requests
    WHERE time >= (SELECT max(time) FROM requests) - {HOURS * _HOUR_MICROS} AND key_id IS NOT NULL AND NOT mirrored
    GROUP BY 1, 2
    """,
)
_COUNT: Final = """
    INSERT INTO key_hours SELECT ?, id, 1, ?, ?, ?, ? FROM names WHERE text = ?
    ON CONFLICT (hour, key_id) DO UPDATE SET requests = requests + 1, refused = refused + excluded.refused,
        failed = failed + excluded.failed, prompt = prompt + excluded.prompt,
        completion = completion + excluded.completion
"""
# CROSS keeps SQLite to this order: each key's hours are looked up. Others cost nothing, and there may be very many: the
# claim `jti` of a token is a key here too.
_OF_KEYS: Final = """
    SELECT names.text, sum(requests), sum(refused), sum(failed), sum(prompt), sum(completion)
    FROM names CROSS JOIN key_hours ON key_id = names.id
    WHERE names.text IN (SELECT value FROM json_each(?)) AND hour IN (SELECT value FROM json_each(?))
    GROUP BY names.id
"""


class KeyUsage(Struct, frozen=True, kw_only=True):
    """What one API key was used for in the last 23 hours and the part of an hour that has begun.

    refused, failed: of the requests; as in RequestRecord.outcome.
    """

    requests: int = 0
    refused: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


def count(connection: Connection, record: RequestRecord) -> None:
    """Adds a record of the request log, whose names are known to it. Copies for a version on trial do not count."""
    if record.key_id is None or record.mirrored:
        return
    outcome = (record.outcome == "refused", record.outcome == "failed")
    tokens = (record.prompt_tokens, record.completion_tokens)
    connection.execute(_COUNT, (int(record.time // _HOUR), *outcome, *tokens, record.key_id))


def usage_of_keys(connection: Connection, kids: Sequence[str], now: float) -> dict[str, KeyUsage]:
    """Of those of these keys that were used. now: UTC seconds since 1970."""
    this = int(now // _HOUR)
    rows = connection.execute(_OF_KEYS, (json.dumps(list(kids)), json.dumps(list(range(this - HOURS + 1, this + 1)))))
    return {
        kid: KeyUsage(requests=requests, refused=refused, failed=failed, prompt_tokens=prompt, completion_tokens=made)
        for kid, requests, refused, failed, prompt, made in rows
    }


def prune_hours(connection: Connection, now: float) -> bool:
    """Forgets some of what is older than a day. Whether there may be more."""
    oldest = int(now // _HOUR) - HOURS
    found = connection.execute(
        "SELECT hour, key_id FROM key_hours WHERE hour < ? LIMIT ?", (oldest, _PRUNED_AT_ONCE)
    ).fetchall()
    connection.executemany("DELETE FROM key_hours WHERE hour = ? AND key_id = ?", found)
    return len(found) == _PRUNED_AT_ONCE
