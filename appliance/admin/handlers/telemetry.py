"""What there is to be seen of the running appliance, in figures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from msgspec.structs import replace

from appliance.admin.route import Answer, Call, Stream
from appliance.errors import ChangeRefused
from appliance.telemetry.metrics import CONTENT_TYPE
from appliance.telemetry.snapshot import Snapshot

# Who may know who uses the appliance: those who run it, and those who look into what happened.
_KNOWS_CLIENTS = frozenset({"operator", "security", "auditor"})


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


async def _whole(text: bytes) -> AsyncIterator[bytes]:
    yield text


def _closed() -> ChangeRefused:
    return ChangeRefused("conflict", "no daemon runs here; start it, and ask again")


def _for(call: Call, found: Snapshot) -> Snapshot:
    return found if _KNOWS_CLIENTS & call.administrator.roles else without_clients(found)


def without_clients(found: Snapshot) -> Snapshot:
    """Without who a failed request was from, the holders of certificates and keys, and who acted last. Pure."""
    failures = tuple(replace(one, principal=None, key_id=None, address="", request_id="") for one in found.failures)
    own = tuple(one for one in found.certificates if one.role not in ("client", "admin", "api_key"))
    action = None if found.last_action is None else replace(found.last_action, actor="-", resource=None)
    return replace(found, failures=failures, certificates=own, last_action=action)
