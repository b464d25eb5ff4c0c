"""Changing the allowlist without locking the wrong people out. Pure.

    entries ──add, remove──▶ staged ──apply──▶ entries (on trial) ──confirm──▶ entries
                                                   └──time over, or revert──▶ the entries before

What a listener's `allow` in appliance.yaml names is part of every list and changes only there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from msgspec.structs import replace

from appliance.access_config import Listener
from appliance.errors import ChangeRefused
from appliance.security.allowlist import Address, Allowlist
from appliance.security.credentials import AllowEntry, AllowState, AllowTrial, Credentials

ENTRIES_MAX: Final = 10_000
TRIAL_SECONDS: Final = 120
TRIAL_MAX: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class AllowDiff:
    """What applying the staged entries would change."""

    added: tuple[AllowEntry, ...]
    removed: tuple[AllowEntry, ...]


def allowlists(listeners: Mapping[str, Listener], entries: Iterable[AllowEntry]) -> dict[str, Allowlist]:
    """The list of every listener. Raises ValueError naming the entry that is none."""
    entries = tuple(entries)
    lists = {}
    for name, listener in listeners.items():
        networks = [entry.network for entry in entries if entry.listener in (None, name)]
        try:
            lists[name] = Allowlist.parse([*listener.allow, *networks])
        except ValueError as error:
            raise ValueError(f"listeners.{name}.allow: {error}") from error
    return lists


def stage_allow(
    document: Credentials,
    listeners: Mapping[str, Listener],
    *,
    add: Sequence[AllowEntry] = (),
    remove: Sequence[str] = (),
) -> Credentials:
    """Adds and removes entries of what is staged. Raises ChangeRefused for an entry that makes no sense."""
    allow = document.allow
    entries = list(allow.entries if allow.staged is None else allow.staged)
    for network in remove:
        entries = _without(entries, canonical(network), listeners)
    for entry in add:
        if entry.listener is not None and entry.listener not in listeners:
            raise ChangeRefused("not_found", f"there is no listener {entry.listener!r}; known: {', '.join(listeners)}")
        entry = replace(entry, network=canonical(entry.network))
        entries = [known for known in entries if _key(known) != _key(entry)] + [entry]
    if len(entries) > ENTRIES_MAX:
        raise ChangeRefused("invalid", f"the allowlist would have more than {ENTRIES_MAX} entries")
    return replace(document, allow=replace(allow, staged=_unless_equal(entries, allow.entries)))


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

    Raises ChangeRefused where nothing is staged, and while another change is on trial.
    """
    allow = document.allow
    if allow.staged is None:
        raise ChangeRefused("conflict", "nothing is staged; `appliance allow add` or `remove` comes first")
    if allow.trial is not None:
        raise ChangeRefused(
            "conflict", f"a change is on trial until {allow.trial.revert_at:%H:%M:%S} UTC; confirm or revert it first"
        )
    if trial is None:
        return replace(document, allow=AllowState(entries=allow.staged))
    if not timedelta(0) < trial <= TRIAL_MAX:
        raise ChangeRefused("invalid", f"a trial takes more than nothing and at most {TRIAL_MAX}")
    on_trial = AllowTrial(previous=allow.entries, applied_at=now, revert_at=now + trial)
    return replace(document, allow=AllowState(entries=allow.staged, trial=on_trial))


def confirm_allow(document: Credentials, connected_at: datetime) -> Credentials:
    """Keeps what is on trial. Only a connection made after it was applied proves that one can still be made.

    Raises ChangeRefused.
    """
    trial = document.allow.trial
    if trial is None:
        raise ChangeRefused("conflict", "no change is on trial; it may have been reverted: `appliance allow list`")
    if connected_at < trial.applied_at:
        raise ChangeRefused("conflict", "confirm over a new connection: this one is older than the change")
    return replace(document, allow=AllowState(entries=document.allow.entries, staged=document.allow.staged))


def revert_allow(document: Credentials) -> Credentials:
    """Undoes what is on trial; it becomes staged again, so that nobody has to type it twice. Raises ChangeRefused.

    What was staged since, on top of it, stays staged.
    """
    allow = document.allow
    if allow.trial is None:
        raise ChangeRefused("conflict", "no change is on trial")
    wanted = allow.entries if allow.staged is None else allow.staged
    staged = _unless_equal(wanted, allow.trial.previous)
    return replace(document, allow=AllowState(entries=allow.trial.previous, staged=staged))


def discard_allow(document: Credentials) -> Credentials:
    """Forgets what is staged."""
    return replace(document, allow=replace(document.allow, staged=None))


def locked_out(
    before: Mapping[str, Allowlist], after: Mapping[str, Allowlist], recent: Iterable[tuple[str, Address]]
) -> list[str]:
    """The addresses of `recent` (listener, address) that could connect before and no more after."""
    return sorted(
        {
            str(address)
            for listener, address in recent
            if listener in before
            and before[listener].allows(address)
            and not (listener in after and after[listener].allows(address))
        }
    )


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


def _without(entries: list[AllowEntry], network: str, listeners: Mapping[str, Listener]) -> list[AllowEntry]:
    kept = [entry for entry in entries if entry.network != network]
    if len(kept) < len(entries):
        return kept
    for name, listener in listeners.items():
        if network in {canonical(entry) for entry in listener.allow}:
            raise ChangeRefused(
                "conflict", f"{network} is in listeners.{name}.allow of appliance.yaml; remove it there, then reload"
            )
    raise ChangeRefused("not_found", f"{network} is not in the allowlist; `appliance allow list` shows what is")


def _key(entry: AllowEntry) -> tuple[str, str | None]:
    return entry.network, entry.listener


def _unless_equal(wanted: Sequence[AllowEntry], entries: Sequence[AllowEntry]) -> tuple[AllowEntry, ...] | None:
    """None where there is nothing to apply; the order means nothing."""
    return None if set(wanted) == set(entries) else tuple(wanted)
