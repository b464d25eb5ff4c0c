"""Changing the allowlist without locking the wrong people out. Pure.

    entries ──add, remove──▶ staged ──apply──▶ entries (on trial) ──confirm──▶ entries
                                                   └──time over, or revert──▶ the entries before

What a listener's `allow` in appliance.yaml names is part of every list and changes only there. An entry with an end
counts until then, whether anybody looks or not; that it has ended is then noted in it, and it goes by itself after
FORGET_ENDED.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from msgspec.structs import replace

from appliance.access_config import Listener
from appliance.errors import ChangeRefused
from appliance.security.allowlist import Address, Allowlist, Rule
from appliance.security.credentials import AllowEntries, AllowEntry, AllowState, AllowTrial, Credentials

ENTRIES_MAX: Final = 10_000
TRIAL_SECONDS: Final = 120
TRIAL_MAX: Final = timedelta(hours=24)
# An entry that is to count for longer needs no end.
LIFE_MAX: Final = timedelta(days=3660)
FORGET_ENDED: Final = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class AllowDiff:
    """What applying the staged entries would change."""

    added: tuple[AllowEntry, ...]
    removed: tuple[AllowEntry, ...]


def allowlists(listeners: Mapping[str, Listener], entries: Iterable[AllowEntry]) -> dict[str, Allowlist]:
    """The list of every listener. Raises ValueError naming the entry that is none."""
    # Of equal networks the last one admits: appliance.yaml's, then the listener's own.
    entries = sorted((entry for entry in entries if not entry.ended), key=lambda entry: entry.listener is not None)
    lists = {}
    for name, listener in listeners.items():
        try:
            rules = [
                *(
                    Rule.parse(one.network, one.until, rule_name(one.network, one.listener))
                    for one in entries
                    if one.listener in (None, name)
                ),
                *configured_rules(name, listener),
            ]
        except ValueError as error:
            raise ValueError(f"listeners.{name}.allow: {error}") from error
        lists[name] = Allowlist(rules, or_loopback=True)
    return lists


def configured_rules(name: str, listener: Listener) -> list[Rule]:
    """Of its `allow` in appliance.yaml, in that order. Raises ValueError."""
    rules = map(Rule.parse, listener.allow)
    return [dataclasses.replace(rule, name=f"{rule_name(str(rule.network), name)} appliance.yaml") for rule in rules]


def rule_name(network: str, listener: str | None) -> str:
    """Of an entry's rules, alike at every listener. network: canonical."""
    return f"{network} {'*' if listener is None else listener}"


def stage_allow(
    document: Credentials,
    listeners: Mapping[str, Listener],
    now: datetime,
    *,
    add: Sequence[AllowEntry] = (),
    extend: Mapping[str, datetime | None] | None = None,
    remove: Sequence[str] = (),
) -> Credentials:
    """Adds and removes entries of what is staged. Raises ChangeRefused for an entry that makes no sense.

    extend: networks whose entries get another end, or none, and keep all else.
    """
    allow = document.allow
    entries = list(allow.entries if allow.staged is None else allow.staged)
    gone = _listed(remove, entries, listeners)
    entries = [one for one in entries if one.network not in gone]
    ends = {}
    for network, until in (extend or {}).items():
        _check_end(network, until, now)
        ends[canonical(network)] = until
    _listed(ends, entries, listeners)
    entries = [replace(one, until=ends[one.network], ended=False) if one.network in ends else one for one in entries]
    wanted, present = ({_key(one): one for one in some} for some in (entries, allow.entries))
    for entry in add:
        if entry.listener is not None and entry.listener not in listeners:
            raise ChangeRefused("not_found", f"there is no listener {entry.listener!r}; known: {', '.join(listeners)}")
        _check_end(entry.network, entry.until, now)
        entry = replace(entry, network=canonical(entry.network))
        key = _key(entry)
        # What says the same already stays as it is.
        known = (one for one in (wanted.get(key), present.get(key)) if one is not None and _said(one) == _said(entry))
        wanted[key] = next(known, entry)
    entries = list(wanted.values())
    if len(entries) > ENTRIES_MAX:
        raise ChangeRefused("invalid", f"the allowlist would have more than {ENTRIES_MAX} entries")
    return replace(document, allow=_staged(allow, entries))


def diff_allow(allow: AllowState) -> AllowDiff:
    """Empty where nothing is staged."""
    if allow.staged is None:
        return AllowDiff((), ())
    before, after = set(allow.entries), set(allow.staged)
    return AllowDiff(
        added=tuple(entry for entry in allow.staged if entry not in before),
        removed=tuple(entry for entry in allow.entries if entry not in after),
    )


def apply_allow(document: Credentials, now: datetime, trial: timedelta | None) -> Credentials:
    """The staged entries count from now on; with `trial`, for that long unless they are confirmed.

    Raises ChangeRefused where nothing is staged, where an entry has ended since it was staged, and while another change
    is on trial.
    """
    allow = document.allow
    if allow.staged is None:
        raise ChangeRefused("conflict", "nothing is staged; `appliance allow add` or `remove` comes first")
    if allow.trial is not None:
        raise ChangeRefused(
            "conflict", f"a change is on trial until {allow.trial.revert_at:%H:%M:%S} UTC; confirm or revert it first"
        )
    for entry in diff_allow(allow).added:
        _check_end(entry.network, entry.until, now)
    if trial is None:
        return replace(document, allow=AllowState.of(allow.staged))
    if not timedelta(0) < trial <= TRIAL_MAX:
        raise ChangeRefused("invalid", f"a trial takes more than nothing and at most {TRIAL_MAX}")
    on_trial = AllowTrial.of(allow.entries, applied_at=now, revert_at=now + trial)
    return replace(document, allow=AllowState.of(allow.staged, trial=on_trial))


def confirm_allow(document: Credentials, connected_at: datetime) -> Credentials:
    """Keeps what is on trial. Only a connection made after it was applied proves that one can still be made.

    Raises ChangeRefused.
    """
    trial = document.allow.trial
    if trial is None:
        raise ChangeRefused("conflict", "no change is on trial; it may have been reverted: `appliance allow list`")
    if connected_at < trial.applied_at:
        raise ChangeRefused("conflict", "confirm over a new connection: this one is older than the change")
    return replace(document, allow=AllowState.of(document.allow.entries, document.allow.staged))


def revert_allow(document: Credentials) -> Credentials:
    """Undoes what is on trial; it becomes staged again, so that nobody has to type it twice. Raises ChangeRefused.

    What was staged since, on top of it, stays staged.
    """
    allow = document.allow
    if allow.trial is None:
        raise ChangeRefused("conflict", "no change is on trial")
    wanted = allow.entries if allow.staged is None else allow.staged
    return replace(document, allow=_staged(AllowState.of(allow.trial.previous), wanted))


def discard_allow(document: Credentials) -> Credentials:
    """Forgets what is staged."""
    return replace(document, allow=AllowState.of(document.allow.entries, trial=document.allow.trial))


def due_to_end(allow: AllowState, now: datetime) -> AllowEntries:
    """The entries whose end has come, and which are not marked so yet. Only those that count, or come back."""
    held = (*allow.ending, *(() if allow.trial is None else allow.trial.ending))
    return tuple(entry for entry in held if not entry.ended and not entry.counts(now))


def end_entries(document: Credentials, now: datetime) -> Credentials:
    """Marks every entry whose end has come. It stays, so that whoever asks why an address is refused finds it."""

    def marked(entry: AllowEntry) -> AllowEntry | None:
        return entry if entry.counts(now) else replace(entry, ended=True)

    return replace(document, allow=_each(document.allow, marked)) if due_to_end(document.allow, now) else document


def forget_ended(document: Credentials, now: datetime) -> Credentials:
    """Drops the entries that have ended for FORGET_ENDED; while a change is on trial none: it would not be undone."""

    def kept(entry: AllowEntry) -> AllowEntry | None:
        return None if entry.ended and entry.until is not None and now - entry.until > FORGET_ENDED else entry

    if document.allow.trial is not None or all(map(kept, document.allow.ending)):
        return document
    return replace(document, allow=_each(document.allow, kept))


def locked_out(
    before: Mapping[str, Allowlist],
    after: Mapping[str, Allowlist],
    recent: Iterable[tuple[str, Address]],
    now: datetime,
) -> list[str]:
    """The addresses of `recent` (listener, address) that can connect before and no more after."""
    return sorted(
        {
            str(address)
            for listener, address in recent
            if listener in before
            and before[listener].allows(address, now)
            and not (listener in after and after[listener].allows(address, now))
        }
    )


def ending_sooner(
    before: Mapping[str, Allowlist],
    after: Mapping[str, Allowlist],
    recent: Iterable[tuple[str, Address]],
    now: datetime,
) -> list[tuple[datetime, str]]:
    """The addresses of `recent` that can connect before and after, and shall not be for as long: until when, soonest
    first."""
    found = set()
    for listener, address in recent:
        if listener in before and listener in after:
            was, will = before[listener].until(address, now), after[listener].until(address, now)
            if was is not None and will is not None and will < was:
                found.add((will, str(address)))
    return sorted(found)


def refuse_lock_out(addresses: Sequence[str], *, force: bool) -> None:
    """Raises ChangeRefused without `force` where somebody would be shut out."""
    if addresses and not force:
        many = f"{len(addresses)} addresses that were" if len(addresses) > 1 else "1 address that was"
        raise ChangeRefused(
            "needs_force",
            f"{many} here in the last 24 hours would be shut out: "
            f"{', '.join(addresses[:10])}{' …' if len(addresses) > 10 else ''}; list them too, or repeat with --force",
        )


def canonical(network: str) -> str:
    """The one spelling of an entry. Raises ChangeRefused."""
    try:
        (parsed,) = Allowlist.parse([network]).networks
    except ValueError as error:
        raise ChangeRefused("invalid", str(error)) from error
    return str(parsed)


def _listed(
    networks: Iterable[str], entries: Iterable[AllowEntry], listeners: Mapping[str, Listener]
) -> frozenset[str]:
    """Their canonical spellings. Raises ChangeRefused where no entry has one of them."""
    wanted = frozenset(map(canonical, networks))
    for network in sorted(wanted - {entry.network for entry in entries}):
        for name, listener in listeners.items():
            if network in {canonical(entry) for entry in listener.allow}:
                raise ChangeRefused(
                    "conflict",
                    f"{network} is in listeners.{name}.allow of appliance.yaml; remove it there, then reload",
                )
        raise ChangeRefused("not_found", f"{network} is not in the allowlist; `appliance allow list` shows what is")
    return wanted


def _key(entry: AllowEntry) -> tuple[str, str | None]:
    return entry.network, entry.listener


def _said(entry: AllowEntry) -> AllowEntry:
    """Without who said it, and when."""
    return replace(entry, added_by="", added_at=None)


def _check_end(network: str, until: datetime | None, now: datetime) -> None:
    """Raises ChangeRefused."""
    if until is None:
        return
    if until <= now:
        raise ChangeRefused("invalid", f"{network} would have ended at {until:%Y-%m-%d %H:%M:%S} UTC; give a later end")
    if until - now > LIFE_MAX:
        raise ChangeRefused("invalid", f"{network} would end in more than {LIFE_MAX.days} days; give it no end")


def _staged(allow: AllowState, wanted: Sequence[AllowEntry]) -> AllowState:
    """Nothing is staged where there is nothing to apply; the order means nothing."""
    staged = None if set(wanted) == set(allow.entries) else tuple(wanted)
    return AllowState.of(allow.entries, staged, allow.trial)


def _each(allow: AllowState, make: Callable[[AllowEntry], AllowEntry | None]) -> AllowState:
    """The same with what `make` makes of each entry, wherever it stands; None drops it."""

    def made(entries: AllowEntries) -> AllowEntries:
        return tuple(entry for entry in map(make, entries) if entry is not None)

    trial = allow.trial
    after = AllowState.of(
        made(allow.entries),
        trial=trial and AllowTrial.of(made(trial.previous), applied_at=trial.applied_at, revert_at=trial.revert_at),
    )
    return after if allow.staged is None else _staged(after, made(allow.staged))
