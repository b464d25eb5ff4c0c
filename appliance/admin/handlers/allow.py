"""The allowlist: what is in it, what is staged, and making it count."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, TypedDict

from msgspec import Meta, Struct

from appliance.access_config import Listener
from appliance.admin.route import Answer, Call
from appliance.errors import ChangeRefused
from appliance.security.access_view import all_allowlists
from appliance.security.allow_changes import (
    LIFE_MAX,
    TRIAL_SECONDS,
    AllowDiff,
    allowlists,
    apply_allow,
    configured_rules,
    confirm_allow,
    diff_allow,
    discard_allow,
    ending_sooner,
    locked_out,
    refuse_lock_out,
    revert_allow,
    rule_name,
    stage_allow,
)
from appliance.security.allowlist import NEVER, normalise
from appliance.security.credentials import AllowEntry, Credentials
from appliance.security.entry_hits import Hits
from appliance.security.fence import Fence, stopped_by

_DENIED_MAX: Final = 1000
_SOONER_MAX: Final = 1000

Network = Annotated[str, Meta(min_length=1, max_length=64)]


Moment = Annotated[datetime, Meta(tz=True)]
Seconds = Annotated[int, Meta(ge=1, le=LIFE_MAX // timedelta(seconds=1))]


class End(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """until, or for_seconds from now on by the appliance's clock; neither: without an end."""

    until: Moment | None = None
    for_seconds: Seconds | None = None

    def at(self, now: datetime) -> datetime | None:
        """As a moment; None without an end. Raises ChangeRefused."""
        if self.until is not None and self.for_seconds is not None:
            raise ChangeRefused("invalid", "give `until` or `for_seconds`, not both")
        if self.for_seconds is not None:
            return (now + timedelta(seconds=self.for_seconds)).replace(microsecond=0)
        return None if self.until is None else self.until.astimezone(UTC)


class NewEntry(End, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """listener: None stands for every one."""

    network: Network
    listener: Annotated[str, Meta(max_length=64)] | None = None
    comment: Annotated[str, Meta(max_length=256)] = ""


class Extension(End, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Another end, or none, for the entries of a network."""

    network: Network


class Stage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Entries to add to what is staged, others to end at another time, and networks to take out of it."""

    add: Annotated[tuple[NewEntry, ...], Meta(max_length=10_000)] = ()
    extend: Annotated[tuple[Extension, ...], Meta(max_length=10_000)] = ()
    remove: Annotated[tuple[Network, ...], Meta(max_length=10_000)] = ()


class Apply(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """confirm_seconds: undone after so long unless confirmed; 0: it counts for good at once."""

    confirm_seconds: Annotated[int, Meta(ge=0, le=86_400)] = TRIAL_SECONDS
    force: bool = False


class EntryView(Struct, frozen=True, kw_only=True):
    """origin: `appliance.yaml` or `allow add`. until: its end, None without one. ended: it lets nobody in any more.

    added_by, added_at: who staged it as it is, and when; empty and None where that is not known. hits: requests that
    came in by it in the last 24 hours. last_seen: the newest ever. counted_since: when counting began; None where it
    has not.
    """

    network: str
    listener: str | None
    comment: str = ""
    origin: str = "allow add"
    until: datetime | None = None
    ended: bool = False
    added_by: str = ""
    added_at: datetime | None = None
    hits: int | None = None
    last_seen: datetime | None = None
    counted_since: datetime | None = None


class DeniedView(Struct, frozen=True, kw_only=True):
    """denied: connections of the last hour, to within five minutes."""

    address: str
    listener: str
    denied: int
    last_seen: datetime


async def show(call: Call) -> Answer:
    """What counts now, what is staged, and what is on trial."""
    return call.answer(_state(call, call.office.document, await call.site.fences.fences()))


async def test(call: Call) -> Answer:
    """Whether an address could connect, now and with what is staged, and until when it can as it is now."""
    text = call.query.get("address", "")
    try:
        address = normalise(text)
    except ValueError as error:
        raise ChangeRefused("invalid", f"{text!r} is no address") from error
    document, listeners, now = call.office.document, _listeners(call), call.office.now()
    present = call.office.access.view.allowlists
    staged = allowlists(
        listeners, document.allow.staged if document.allow.staged is not None else document.allow.entries
    )
    until = {name: present[name].until(address, now) for name in listeners}
    may_later = {name: staged[name].allows(address, now) for name in listeners}
    may_connect = any(may_later.values()) or any(end is not None for end in until.values())
    return call.answer(
        {
            "address": str(address),
            "now": {name: end is not None for name, end in until.items()},
            "staged": may_later,
            "fenced": stopped_by(await call.site.fences.fences(), [str(address)] if may_connect else []),
            "until": {name: None if end == NEVER else end for name, end in until.items()},
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
    asked, listeners, by = call.parsed(Stage), _listeners(call), call.administrator.name

    def transition(document: Credentials, now: datetime) -> Credentials:
        add = [
            AllowEntry(
                network=one.network,
                listener=one.listener,
                comment=one.comment,
                until=one.at(now),
                added_by=by,
                added_at=now,
            )
            for one in asked.add
        ]
        extend = {one.network: one.at(now) for one in asked.extend}
        return stage_allow(document, listeners, now, add=add, extend=extend, remove=asked.remove)

    return await _change(call, transition)


async def discard(call: Call) -> Answer:
    """Forgets what is prepared."""
    return await _change(call, lambda document, now: discard_allow(document))


async def apply(call: Call) -> Answer:
    """Makes what is staged count, unless somebody who is here would be shut out; says who is not here for as long."""
    asked = call.parsed(Apply)
    trial = timedelta(seconds=asked.confirm_seconds) if asked.confirm_seconds else None

    def transition(document: Credentials, now: datetime) -> Credentials:
        after = apply_allow(document, now, trial)
        before, lists = call.office.access.view.allowlists, all_allowlists(call.office.config, after.allow.entries)
        recent = call.office.seen.addresses(now)
        refuse_lock_out(locked_out(before, lists, recent, now), force=asked.force)
        sooner = ending_sooner(before, lists, recent, now)[:_SOONER_MAX]
        more["ending_sooner"] = [{"address": address, "until": until} for until, address in sooner]
        return after

    more: dict[str, object] = {}
    return await _change(call, transition, more)


async def confirm(call: Call) -> Answer:
    """Keeps what is on trial."""
    return await _change(call, lambda document, now: confirm_allow(document, call.connected_at))


async def revert(call: Call) -> Answer:
    """Undoes what is on trial."""
    return await _change(call, lambda document, now: revert_allow(document))


async def _change(
    call: Call,
    transition: Callable[[Credentials, datetime], Credentials],
    more: Mapping[str, object] | None = None,
) -> Answer:
    """more: to be answered besides; `transition` may fill it in."""

    def both(document: Credentials, now: datetime) -> tuple[Credentials, Credentials]:
        after = transition(document, now)
        return after, after

    change = await call.change("allowlist", both)
    return Answer(
        {**_state(call, change.result, await call.site.fences.fences()), "cut": change.cut, **(more or {})},
        change.generation,
    )


def _listeners(call: Call) -> dict[str, Listener]:
    return call.office.config.listeners


def _state(call: Call, document: Credentials, fences: Iterable[Fence]) -> dict[str, object]:
    allow = document.allow
    diff: AllowDiff = diff_allow(allow)
    now, hits = call.office.now(), call.office.access.hits
    configured = [
        EntryView(network=network, listener=name, origin="appliance.yaml", **_counted(hits.of(rule.name, now)))
        for name, listener in _listeners(call).items()
        for network, rule in zip(listener.allow, configured_rules(name, listener), strict=True)
    ]

    def view(entry: AllowEntry) -> EntryView:
        return EntryView(
            network=entry.network,
            listener=entry.listener,
            comment=entry.comment,
            until=entry.until,
            ended=not entry.counts(now),
            added_by=entry.added_by,
            added_at=entry.added_at,
            **_counted(hits.of(rule_name(entry.network, entry.listener), now)),
        )

    entries, added = [*configured, *map(view, allow.entries)], list(map(view, diff.added))
    return {
        "entries": entries,
        "fenced": stopped_by(fences, (one.network for one in (*entries, *added) if not one.ended)),
        "staged": {
            "add": added,
            "remove": list(map(view, diff.removed)),
        },
        "trial": None if allow.trial is None else {"revert_at": allow.trial.revert_at},
    }


class _Counted(TypedDict, total=False):
    hits: int
    last_seen: datetime | None
    counted_since: datetime


def _counted(hits: Hits | None) -> _Counted:
    if hits is None:
        return {}
    return {"hits": hits.last_day, "last_seen": hits.last, "counted_since": hits.since}
