"""What there is to be seen of the running appliance: figures, and events as they happen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Final

import msgspec
from msgspec.structs import replace

from appliance.access_config import AdminRole
from appliance.admin.handlers.alerts import alerts_without_clients
from appliance.admin.route import Answer, Call, Stream
from appliance.errors import ChangeRefused
from appliance.telemetry.event_stream import KINDS, READERS_MAX, EventKind
from appliance.telemetry.history import HistoryReader
from appliance.telemetry.metrics import CONTENT_TYPE
from appliance.telemetry.snapshot import Snapshot

# As the routes `/requests` and `/logs` have it; the other kinds are for everybody.
_FOLLOWS: Final[Mapping[EventKind, frozenset[AdminRole]]] = {
    "requests": frozenset({"operator", "auditor"}),
    "logs": frozenset({"operator", "security", "auditor"}),
}

_HISTORY: Final = timedelta(hours=1)
_STEP_MAX: Final = 86_400
_decode: Final = msgspec.json.Decoder(Snapshot).decode


async def metrics(call: Call) -> Stream:
    """For Prometheus. They are written in a thread: requests go on meanwhile."""
    if call.site.metrics is None:
        raise _closed()
    text = await asyncio.to_thread(call.site.metrics.text)
    return Stream(_whole(text), CONTENT_TYPE, call.office.document.generation)


async def snapshot(call: Call) -> Answer:
    """The newest one, not older than a second. A viewer is not told whose requests failed."""
    if call.site.snapshot is None:
        raise _closed()
    return call.answer(_for(call, call.site.snapshot()))


async def events(call: Call) -> Stream:
    """What happens from now on, or since Last-Event-ID. `kinds`: some of them, with commas.

    It ends when the configuration is read again: roles may have changed. Whoever may still look asks again.
    """
    stream, office, roles = call.site.events, call.office, call.administrator.roles
    if stream is None:
        raise _closed()
    if stream.readers >= READERS_MAX:
        raise ChangeRefused("conflict", f"{READERS_MAX} dashboards follow already; close one, or try again later")
    asked = [kind for kind in call.query.get("kinds", ",".join(KINDS)).split(",") if kind]
    if unknown := [kind for kind in asked if kind not in KINDS]:
        raise ChangeRefused("invalid", f"kinds: {unknown[0][:40]!r} is none; known: {', '.join(KINDS)}")
    kinds = [kind for kind in KINDS if kind in asked and _FOLLOWS.get(kind, roles) & roles]
    config = office.config
    chunks = stream.follow(
        kinds,
        call.last_event_id or call.query.get("after", ""),
        trusted=call.administrator.knows_clients,
        allowed=lambda: office.config is config,
    )
    return Stream(chunks, "text/event-stream", office.document.generation, live=True)


async def history(call: Call) -> Answer:
    """What was to be seen earlier."""
    reader, now = call.site.history, call.office.now()
    if reader is None:
        raise _closed()
    until = call.time("until") or now
    since = call.time("since") or until - _HISTORY
    if since > until:
        raise ChangeRefused("invalid", "since: it is later than until")
    bare = not call.administrator.knows_clients
    step = float(call.number("step", 0, _STEP_MAX))
    return call.answer(await asyncio.to_thread(written, reader, since.timestamp(), until.timestamp(), step, bare))


def written(reader: HistoryReader, since: float, until: float, step: float, bare: bool) -> bytes:
    """The answer as JSON. bare: for a viewer. Blocks. Raises StateError."""
    found = reader.read(since, until, step)
    snapshots = [msgspec.json.encode(without_clients(_decode(one))) if bare else one for one in found.snapshots]
    return b'{"step":%b,"snapshots":[%b]}' % (msgspec.json.encode(found.step), b",".join(snapshots))


async def _whole(text: bytes) -> AsyncIterator[bytes]:
    yield text


def _closed() -> ChangeRefused:
    return ChangeRefused("conflict", "no daemon runs here; start it, and ask again")


def _for(call: Call, found: Snapshot) -> Snapshot:
    return found if call.administrator.knows_clients else without_clients(found)


def without_clients(found: Snapshot) -> Snapshot:
    """Without who a failed request was from, who holds certificates and keys, where clients are, who acted, and who is
    told. Pure.
    """
    failures = tuple(replace(one, principal=None, key_id=None, address="", request_id="") for one in found.failures)
    own = tuple(one for one in found.certificates if one.role not in ("client", "admin", "api_key"))
    action = None if found.last_action is None else replace(found.last_action, actor="-", resource=None)
    return replace(
        found,
        failures=failures,
        certificates=own,
        allow_ending=(),
        last_action=action,
        alerts=alerts_without_clients(found.alerts),
    )
