"""The allowlist: what is in it, what is staged, and making it count."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from msgspec import Meta, Struct

from appliance.access_config import Listener
from appliance.admin.route import Answer, Call
from appliance.errors import ChangeRefused
from appliance.security.access_view import all_allowlists
from appliance.security.allow_changes import (
    TRIAL_SECONDS,
    AllowDiff,
    allowlists,
    apply_allow,
    confirm_allow,
    diff_allow,
    discard_allow,
    locked_out,
    refuse_lock_out,
    revert_allow,
    stage_allow,
)
from appliance.security.allowlist import normalise
from appliance.security.credentials import AllowEntry, Credentials

_DENIED_MAX: Final = 1000

Network = Annotated[str, Meta(min_length=1, max_length=64)]


class NewEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """listener: None stands for every one."""

    network: Network
    listener: Annotated[str, Meta(max_length=64)] | None = None
    comment: Annotated[str, Meta(max_length=256)] = ""


class Stage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Entries to add to what is staged, and networks to take out of it."""

    add: Annotated[tuple[NewEntry, ...], Meta(max_length=10_000)] = ()
    remove: Annotated[tuple[Network, ...], Meta(max_length=10_000)] = ()


class Apply(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """confirm_seconds: undone after so long unless confirmed; 0: it counts for good at once."""

    confirm_seconds: Annotated[int, Meta(ge=0, le=86_400)] = TRIAL_SECONDS
    force: bool = False


class EffectiveEntry(Struct, frozen=True, kw_only=True):
    """origin: `appliance.yaml` or `allow add`."""

    network: str
    listener: str | None
    comment: str
    origin: str


class DeniedView(Struct, frozen=True, kw_only=True):
    """denied: connections of the last hour, to within five minutes."""

    address: str
    listener: str
    denied: int
    last_seen: datetime


async def show(call: Call) -> Answer:
    """What counts now, what is staged, and what is on trial."""
    return call.answer(_state(call, call.office.document))


async def test(call: Call) -> Answer:
    """Whether an address could connect, now and with what is staged."""
    text = call.query.get("address", "")
    try:
        address = normalise(text)
    except ValueError as error:
        raise ChangeRefused("invalid", f"{text!r} is no address") from error
    document, listeners = call.office.document, _listeners(call)
    now = call.office.access.view.allowlists
    staged = allowlists(
        listeners, document.allow.staged if document.allow.staged is not None else document.allow.entries
    )
    return call.answer(
        {
            "address": str(address),
            "now": {name: now[name].allows(address) for name in listeners},
            "staged": {name: staged[name].allows(address) for name in listeners},
        }
    )


async def denied(call: Call) -> Answer:
    """Whom the list has turned away in the last hour, most often first: who is missing in it, or is looking around."""
    limit = max(1, call.number("limit", 100, _DENIED_MAX))
    found = [
        DeniedView(
            address=one.address,
            listener=listener,
            denied=one.denied,
            last_seen=datetime.fromtimestamp(one.last, UTC),
        )
        for listener, addresses in call.site.premises.denied(limit).items()
        for one in addresses
    ]
    found.sort(key=lambda one: (-one.denied, -one.last_seen.timestamp()))
    return call.answer(found[:limit])


async def stage(call: Call) -> Answer:
    """Prepares a change."""
    asked, listeners = call.parsed(Stage), _listeners(call)
    add = [AllowEntry(network=entry.network, listener=entry.listener, comment=entry.comment) for entry in asked.add]
    return await _change(call, lambda document, now: stage_allow(document, listeners, add=add, remove=asked.remove))


async def discard(call: Call) -> Answer:
    """Forgets what is prepared."""
    return await _change(call, lambda document, now: discard_allow(document))


async def apply(call: Call) -> Answer:
    """Makes what is staged count, unless somebody who is here would be shut out."""
    asked = call.parsed(Apply)
    trial = timedelta(seconds=asked.confirm_seconds) if asked.confirm_seconds else None

    def transition(document: Credentials, now: datetime) -> Credentials:
        after = apply_allow(document, now, trial)
        lists = all_allowlists(call.office.config, after.allow.entries)
        shut_out = locked_out(call.office.access.view.allowlists, lists, call.office.seen.addresses(now))
        refuse_lock_out(shut_out, force=asked.force)
        return after

    return await _change(call, transition)


async def confirm(call: Call) -> Answer:
    """Keeps what is on trial."""
    return await _change(call, lambda document, now: confirm_allow(document, call.connected_at))


async def revert(call: Call) -> Answer:
    """Undoes what is on trial."""
    return await _change(call, lambda document, now: revert_allow(document))


async def _change(call: Call, transition: Callable[[Credentials, datetime], Credentials]) -> Answer:
    def both(document: Credentials, now: datetime) -> tuple[Credentials, Credentials]:
        after = transition(document, now)
        return after, after

    change = await call.change("allowlist", both)
    return Answer({**_state(call, change.result), "cut": change.cut}, change.generation)


def _listeners(call: Call) -> dict[str, Listener]:
    return call.office.config.listeners


def _state(call: Call, document: Credentials) -> dict[str, object]:
    allow = document.allow
    diff: AllowDiff = diff_allow(allow)
    configured = [
        EffectiveEntry(network=network, listener=name, comment="", origin="appliance.yaml")
        for name, listener in _listeners(call).items()
        for network in listener.allow
    ]
    added = [
        EffectiveEntry(network=entry.network, listener=entry.listener, comment=entry.comment, origin="allow add")
        for entry in allow.entries
    ]
    return {
        "entries": [*configured, *added],
        "staged": {"add": diff.added, "remove": diff.removed},
        "trial": None if allow.trial is None else {"revert_at": allow.trial.revert_at},
    }
