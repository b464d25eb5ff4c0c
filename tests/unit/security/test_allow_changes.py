"""appliance.security.allow_changes"""

from __future__ import annotations

from datetime import timedelta
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from appliance.access_config import Listener
from appliance.errors import ChangeRefused
from appliance.security import allow_changes
from appliance.security.allow_changes import (
    FORGET_ENDED,
    LIFE_MAX,
    TRIAL_MAX,
    allowlists,
    apply_allow,
    canonical,
    confirm_allow,
    diff_allow,
    discard_allow,
    due_to_end,
    end_entries,
    ending_sooner,
    forget_ended,
    locked_out,
    refuse_lock_out,
    revert_allow,
    stage_allow,
)
from appliance.security.allowlist import normalise
from appliance.security.credentials import AllowEntry, AllowState, Credentials
from tests.unit.security.making import HOUR, NOW, founded

LISTENERS = {"api": Listener(allow=("198.51.100.0/24",)), "dify": Listener()}
OFFICE, LAB = AllowEntry(network="10.0.0.0/8", comment="office"), AllowEntry(network="192.0.2.0/24", listener="dify")

ENTRIES = st.builds(
    AllowEntry,
    network=st.sampled_from(["10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32", "203.0.113.7/32"]),
    listener=st.sampled_from([None, "api", "dify"]),
    comment=st.sampled_from(["", "a"]),
    until=st.sampled_from([None, NOW + HOUR]),
)


def of(*entries: AllowEntry, staged: tuple[AllowEntry, ...] | None = None) -> Credentials:
    return replace(founded(), allow=AllowState.of(entries=entries, staged=staged))


def stage(document: Credentials, *add: AllowEntry, remove: tuple[str, ...] = ()) -> Credentials:
    return stage_allow(document, LISTENERS, NOW, add=add, remove=remove)


def refused(code: str, call: object, *arguments: object, **more: object) -> str:
    with pytest.raises(ChangeRefused) as caught:
        call(*arguments, **more)  # type: ignore[operator]
    assert caught.value.code == code
    return caught.value.message


# Staging.


def test_what_is_staged_does_not_count_yet() -> None:
    document = stage(of(OFFICE), LAB, remove=("10.0.0.0/8",))
    assert document.allow.entries == (OFFICE,)
    assert document.allow.staged == (LAB,)
    diff = diff_allow(document.allow)
    assert (diff.added, diff.removed) == ((LAB,), (OFFICE,))
    assert allowlists(LISTENERS, document.allow.entries)["api"].allows(ip_address("10.1.1.1"), NOW)


def test_staging_goes_on_from_what_is_staged() -> None:
    document = stage(stage(of(), OFFICE), LAB)
    assert document.allow.staged == (OFFICE, LAB)
    assert stage(document, remove=("10.0.0.0/8", "192.0.2.0/24")).allow.staged is None, "as it is now"
    assert discard_allow(document) == of()


def test_an_entry_is_told_by_network_and_listener() -> None:
    everywhere = replace(LAB, listener=None)
    document = stage(of(LAB), everywhere)
    assert document.allow.staged == (LAB, everywhere)
    assert stage(document, remove=("192.0.2.0/24",)).allow.staged == ()


def test_another_comment_is_a_change() -> None:
    named = replace(OFFICE, comment="the office in Bonn")
    document = stage(of(OFFICE), named)
    assert document.allow.staged == (named,)
    assert diff_allow(document.allow).added == (named,)
    assert stage(of(OFFICE), OFFICE).allow.staged is None


def test_who_added_an_entry_stays_until_it_says_something_else() -> None:
    mine, yours = replace(OFFICE, added_by="wang", added_at=NOW), replace(OFFICE, added_by="li", added_at=NOW + HOUR)
    assert stage(of(mine), yours).allow.staged is None
    assert stage(stage(of(mine), remove=(OFFICE.network,)), yours).allow.staged is None, "as it is now"
    assert stage(stage(of(), mine), yours).allow.staged == (mine,)
    document = stage_allow(of(mine), LISTENERS, NOW, extend={OFFICE.network: NOW + HOUR})
    assert document.allow.staged == (replace(mine, until=NOW + HOUR),)
    renamed = replace(yours, comment="the office in Bonn")
    assert stage(of(mine), renamed).allow.staged == (renamed,)


@pytest.mark.parametrize(
    ("written", "meant"),
    [("10.1.2.3", "10.1.2.3/32"), ("::ffff:10.1.2.0/120", "10.1.2.0/24"), ("2001:DB8::/32", "2001:db8::/32")],
)
def test_every_network_has_one_spelling(written: str, meant: str) -> None:
    assert canonical(written) == meant
    document = stage(of(), AllowEntry(network=written))
    assert [entry.network for entry in document.allow.staged or ()] == [meant]
    assert stage(document, remove=(written,)).allow.staged is None


@pytest.mark.parametrize(
    "network", ["", "10.0.0.0/33", "10.0.0.1/8", "example.org", "10.0.0.0/0.0.0.255", "fe80::1%eth0"]
)
def test_what_is_no_network_is_refused(network: str) -> None:
    refused("invalid", stage, of(), AllowEntry(network=network))
    refused("invalid", stage, of(), remove=(network,))


def test_what_is_not_there_cannot_be_removed() -> None:
    assert "is not in the allowlist" in refused("not_found", stage, of(OFFICE), remove=("192.0.2.0/24",))
    message = refused("conflict", stage, of(), remove=("198.51.100.0/24",))
    assert "listeners.api.allow of appliance.yaml" in message
    assert "known: api, dify" in refused("not_found", stage, of(), replace(LAB, listener="no"))


def test_the_number_of_entries_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allow_changes, "ENTRIES_MAX", 2)
    refused("invalid", stage, of(OFFICE, LAB), AllowEntry(network="203.0.113.7"))
    assert stage(of(OFFICE, LAB), replace(OFFICE, comment="")).allow.staged is not None


# Applying.


def test_without_a_trial_it_counts_at_once() -> None:
    document = apply_allow(stage(of(), OFFICE), NOW, None)
    assert document.allow == AllowState.of(entries=(OFFICE,))
    assert refused("conflict", apply_allow, document, NOW, None).startswith("nothing is staged")


@pytest.mark.parametrize("trial", [timedelta(0), -HOUR, TRIAL_MAX + timedelta(seconds=1)])
def test_a_trial_has_bounds(trial: timedelta) -> None:
    refused("invalid", apply_allow, stage(of(), OFFICE), NOW, trial)


def test_one_trial_at_a_time() -> None:
    document = apply_allow(stage(of(), OFFICE), NOW, HOUR)
    assert document.allow.trial is not None
    assert document.allow.trial.revert_at == NOW + HOUR
    for trial in (None, HOUR):
        assert "is on trial until" in refused("conflict", apply_allow, stage(document, LAB), NOW, trial)


def test_only_a_connection_that_is_newer_confirms() -> None:
    document = apply_allow(stage(of(), OFFICE), NOW, HOUR)
    old = refused("conflict", confirm_allow, document, NOW - timedelta(microseconds=1))
    assert "over a new connection" in old
    confirmed = confirm_allow(document, NOW + timedelta(seconds=1))
    assert confirmed.allow == AllowState.of(entries=(OFFICE,))
    refused("conflict", confirm_allow, confirmed, NOW + HOUR)
    refused("conflict", revert_allow, confirmed)


def test_confirming_keeps_what_was_staged_since() -> None:
    document = stage(apply_allow(stage(of(), OFFICE), NOW, HOUR), LAB)
    assert confirm_allow(document, NOW).allow == AllowState.of(entries=(OFFICE,), staged=(OFFICE, LAB))


def test_reverting_keeps_what_was_staged_since() -> None:
    document = stage(apply_allow(stage(of(), OFFICE), NOW, HOUR), LAB)
    assert revert_allow(document).allow == AllowState.of(entries=(), staged=(OFFICE, LAB))
    undone = stage(apply_allow(stage(of(), OFFICE), NOW, HOUR), remove=("10.0.0.0/8",))
    assert revert_allow(undone).allow == AllowState(), "nothing is left to apply"


@given(
    st.lists(ENTRIES, max_size=4, unique_by=lambda entry: (entry.network, entry.listener)),
    st.lists(ENTRIES, max_size=3),
)
def test_a_revert_restores_exactly_and_can_be_applied_again(before: list[AllowEntry], add: list[AllowEntry]) -> None:
    document = of(*before)
    remove = tuple({entry.network for entry in before[:1]})
    staged = stage(document, *add, remove=remove)
    if staged.allow.staged is None:
        return
    on_trial = apply_allow(staged, NOW, HOUR)
    assert on_trial.allow.entries == staged.allow.staged
    reverted = revert_allow(on_trial)
    assert reverted.allow.entries == document.allow.entries
    assert reverted.allow.trial is None
    assert apply_allow(reverted, NOW, None).allow.entries == on_trial.allow.entries
    assert discard_allow(reverted) == document


# Ends.

GUEST = AllowEntry(network="203.0.113.7/32", comment="auditor", until=NOW + HOUR)


def test_an_end_is_to_come() -> None:
    for wrong in (NOW, NOW - HOUR):
        assert "give a later end" in refused("invalid", stage, of(), replace(GUEST, until=wrong))
        refused("invalid", stage_allow, of(OFFICE), LISTENERS, NOW, extend={"10.0.0.0/8": wrong})
    assert "give it no end" in refused("invalid", stage, of(), replace(GUEST, until=NOW + LIFE_MAX + HOUR))
    document = stage(of(), GUEST)
    assert "would have ended" in refused("invalid", apply_allow, document, NOW + HOUR, None)
    assert apply_allow(document, NOW, None).allow == AllowState.of((GUEST,))


def test_an_entry_gets_another_end_and_keeps_all_else() -> None:
    own = replace(GUEST, listener="dify", comment="")
    document = stage_allow(of(GUEST, own, OFFICE), LISTENERS, NOW, extend={"203.0.113.7": NOW + 2 * HOUR})
    later = NOW + 2 * HOUR
    assert set(document.allow.staged or ()) == {replace(GUEST, until=later), replace(own, until=later), OFFICE}
    ended = of(replace(GUEST, ended=True))
    again = stage_allow(ended, LISTENERS, NOW + 9 * HOUR, extend={"203.0.113.7": None})
    assert again.allow.staged == (replace(GUEST, until=None),)
    assert "is not in the allowlist" in refused(
        "not_found", stage_allow, of(), LISTENERS, NOW, extend={"203.0.113.7": None}
    )
    assert "appliance.yaml" in refused(
        "conflict", stage_allow, of(), LISTENERS, NOW, extend={"198.51.100.0/24": NOW + HOUR}
    )


def test_an_end_is_marked_wherever_the_entry_stands() -> None:
    document = stage(apply_allow(stage(of(GUEST), LAB), NOW, HOUR), OFFICE)
    assert due_to_end(document.allow, NOW + HOUR - timedelta(microseconds=1)) == ()
    assert end_entries(document, NOW) is document
    over = NOW + HOUR
    marked, allow = replace(GUEST, ended=True), end_entries(document, over).allow
    assert set(allow.entries) == {LAB, marked}
    assert set(allow.staged or ()) == {LAB, OFFICE, marked}
    assert allow.trial is not None
    assert allow.trial.previous == (marked,)
    assert due_to_end(allow, over) == ()
    only_coming_back = apply_allow(stage(of(GUEST), remove=("203.0.113.7",)), NOW, HOUR)
    assert due_to_end(only_coming_back.allow, over) == (GUEST,)


def test_an_end_alone_stages_nothing() -> None:
    document = replace(of(), allow=AllowState.of((GUEST, OFFICE), (GUEST, OFFICE, LAB)))
    allow = end_entries(document, NOW + HOUR).allow
    assert (diff_allow(allow).added, diff_allow(allow).removed) == ((LAB,), ())


def test_an_ended_entry_is_forgotten_after_a_while_but_not_during_a_trial() -> None:
    marked = replace(GUEST, ended=True)
    document, then = of(marked, OFFICE), NOW + HOUR + FORGET_ENDED
    assert forget_ended(document, then) is document
    later = then + timedelta(seconds=1)
    assert forget_ended(document, later).allow == AllowState.of((OFFICE,))
    on_trial = apply_allow(stage(document, LAB), NOW, HOUR)
    assert forget_ended(on_trial, later) is on_trial


def test_an_ended_entry_lets_nobody_in_whatever_the_clock_says() -> None:
    address = ip_address("203.0.113.7")
    for entry, expected in ((GUEST, True), (replace(GUEST, ended=True), False)):
        lists = allowlists(LISTENERS, (entry, OFFICE))
        assert lists["api"].allows(address, NOW) is expected
        assert not lists["api"].allows(address, NOW + HOUR)


def test_who_shall_not_come_in_for_as_long_is_told() -> None:
    before = allowlists(LISTENERS, (OFFICE, replace(GUEST, until=NOW + 9 * HOUR)))
    after = allowlists(LISTENERS, (replace(OFFICE, until=NOW + 2 * HOUR), GUEST))
    recent = [("api", ip_address(one)) for one in ("10.1.1.1", "203.0.113.7", "198.51.100.1", "192.0.2.1")]
    assert ending_sooner(before, after, recent, NOW) == [(NOW + HOUR, "203.0.113.7"), (NOW + 2 * HOUR, "10.1.1.1")]
    assert ending_sooner(after, before, recent, NOW) == []
    assert ending_sooner(before, after, [("gone", ip_address("10.1.1.1"))], NOW) == []


# Who would be shut out.


def test_lists_have_the_entries_of_both_sources() -> None:
    lists = allowlists(LISTENERS, (OFFICE, LAB))
    assert {name: sorted(map(str, one.networks)) for name, one in lists.items()} == {
        "api": ["10.0.0.0/8", "198.51.100.0/24"],
        "dify": ["10.0.0.0/8", "192.0.2.0/24"],
    }
    assert allowlists(LISTENERS, ())["dify"].allows(ip_address("127.0.0.1"), NOW), "an empty list is loopback"
    with pytest.raises(ValueError, match=r"listeners\.api\.allow: 'junk'"):
        allowlists({"api": Listener(allow=("junk",))}, ())


def test_who_could_connect_before_and_could_not_after() -> None:
    before, after = allowlists(LISTENERS, (OFFICE, LAB)), allowlists(LISTENERS, (LAB,))
    recent = [
        (listener, normalise(address))
        for listener, address in [
            ("api", "10.1.1.1"), ("dify", "10.1.1.1"), ("api", "10.1.1.2"), ("dify", "192.0.2.1"),
            ("api", "203.0.113.7"), ("gone", "10.1.1.3"),
        ]
    ]  # fmt: skip
    assert locked_out(before, after, recent, NOW) == ["10.1.1.1", "10.1.1.2"]
    assert locked_out(before, {}, recent, NOW) == ["10.1.1.1", "10.1.1.2", "192.0.2.1"]
    assert locked_out(before, before, recent, NOW) == []


def test_a_first_entry_shuts_loopback_out() -> None:
    """Without entries loopback may connect; an entry takes the place of that."""
    before, after = allowlists(LISTENERS, ()), allowlists(LISTENERS, (LAB,))
    assert locked_out(before, after, [("dify", ip_address("127.0.0.1"))], NOW) == ["127.0.0.1"]


def test_shutting_out_needs_force() -> None:
    refuse_lock_out([], force=False)
    many = [f"10.0.0.{number}" for number in range(12)]
    refuse_lock_out(many, force=True)
    message = refused("needs_force", refuse_lock_out, many, force=False)
    assert message.startswith("12 addresses that were here in the last 24 hours")
    assert "10.0.0.9 …" in message
    message = refused("needs_force", refuse_lock_out, many[:1], force=False)
    assert message.startswith("1 address that was here in the last 24 hours would be shut out: 10.0.0.0;")
