"""appliance.security.upkeep"""

from __future__ import annotations

import asyncio
import math
import time
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Generic, TypeVar

import pytest
from msgspec.structs import replace

from appliance.access_config import Audit, Listener
from appliance.audit.errors import AuditUnavailable
from appliance.audit.record import Actor, AuditEvent
from appliance.config import Config
from appliance.security import upkeep
from appliance.security.allow_changes import FORGET_ENDED, apply_allow, confirm_allow, stage_allow
from appliance.security.api_keys import ApiKey, matches
from appliance.security.ca_changes import finalize_rotation, issue_from_successor, roll_back, start_rotation
from appliance.security.certificate_names import server_names_of
from appliance.security.credentials import AllowEntry, AllowState, Credentials
from appliance.security.disk_guard import DiskGuard
from appliance.security.entry_hits import EntryHits, Hits
from appliance.security.founding import found
from appliance.security.issuing import make_authority, make_server, sign_leaf
from appliance.security.key_changes import FORGET_AFTER, add_key, add_pepper, peppers_of, revoke_key, rotate_key
from appliance.security.revocations import revoke
from appliance.security.server_changes import show_server, stage_server
from appliance.security.stored_pair import certificate_of
from appliance.security.upkeep import Alarm, Upkeep, alarms, renewal_is_due
from tests.unit.security.making import (
    DAY,
    HERE,
    HOUR,
    NAMES,
    NOW,
    PROFILES,
    Bench,
    bench,
    configured,
    with_client,
)
from tests.waiting import until

T = TypeVar("T")

ANNA = Actor(principal="anna")
OFFICE = AllowEntry(network="10.0.0.0/8")
# A server certificate lives 397 days and begins a day before its issue.
DUE = timedelta(days=0.667 * 398 - 1)


@cache
def made(when: datetime) -> Credentials:
    """An appliance whose server certificate covers what this host is called."""
    return found(PROFILES, configured().names, b"s" * 32, when)


class Chore(Generic[T]):
    def __init__(self, result: T, trouble: Exception | None = None) -> None:
        self.calls, self.result, self.trouble = 0, result, trouble

    async def __call__(self) -> T:
        self.calls += 1
        if self.trouble is not None:
            raise self.trouble
        return self.result


def keeper_of(desk: Bench, renew: Chore[bool] | None = None, prune: Chore[None] | None = None) -> Upkeep:
    return Upkeep(desk.office, DiskGuard(desk.path.parent, Audit()), renew or Chore(True), prune or Chore(None))


def keeping(folder: Path, document: Credentials | None = None, config: Config | None = None) -> tuple[Bench, Upkeep]:
    desk = bench(folder, document or made(NOW), config)
    return desk, keeper_of(desk)


# Renewal.


def is_due(document: Credentials, at: datetime, *more: str) -> bool:
    return renewal_is_due(document, PROFILES, (*configured().names, *more), at)


def test_a_certificate_is_due_at_two_thirds_of_its_life() -> None:
    document = made(NOW)
    assert not is_due(document, NOW)
    assert not is_due(document, NOW + DUE - HOUR)
    assert is_due(document, NOW + DUE + HOUR)
    assert is_due(document, NOW + 500 * DAY), "late is better than never"


def test_a_name_that_is_not_covered_makes_it_due() -> None:
    assert is_due(made(NOW), NOW, "llm.example")


def test_one_from_a_clock_that_was_ahead_is_due() -> None:
    document = show_server(made(NOW), make_server(made(NOW), PROFILES, configured().names, NOW + 9 * DAY))
    assert is_due(document, NOW)
    assert not is_due(document, NOW + 9 * DAY)


def test_one_of_an_authority_that_is_gone_is_due() -> None:
    document = start_rotation(made(NOW), "server", make_authority(PROFILES, "server", "x", NOW), NOW)
    assert not is_due(document, NOW)
    issuing = issue_from_successor(document, "server", NOW)
    assert not is_due(issuing, NOW), "both are trusted"
    assert is_due(finalize_rotation(issuing, "server", [], NOW, force=False), NOW)
    fresh = show_server(issuing, make_server(issuing, PROFILES, configured().names, NOW))
    assert not is_due(finalize_rotation(fresh, "server", [], NOW, force=False), NOW)
    assert is_due(roll_back(fresh, "server", NOW), NOW)


def test_the_end_of_the_authority_is_not_renewed_against() -> None:
    """A new certificate would end on the same day, and be due again at once."""
    old = made(NOW - 3640 * DAY)
    document = show_server(old, make_server(old, PROFILES, configured().names, NOW - 30 * DAY))
    ends = {
        certificate_of(pair).not_valid_after_utc for pair in (document.server.active, old.authorities["server"].current)
    }
    assert len(ends) == 1
    for days in range(-30, 20):
        assert not is_due(document, NOW + days * DAY)
    assert is_due(document, NOW, "llm.example"), "another name is another matter"
    assert not is_due(document, NOW + 10 * DAY, "llm.example"), "an expired authority cannot help"


def test_one_that_was_made_elsewhere_is_never_due() -> None:
    document = made(NOW)
    imported = replace(document.server.active, chain=(document.authorities["server"].current.certificate,))
    document = replace(document, server=replace(document.server, active=imported))
    assert not is_due(document, NOW + 900 * DAY, "llm.example")


async def test_it_is_renewed_in_time_and_once(tmp_path: Path) -> None:
    begun = NOW - 280 * DAY
    desk, keeper = keeping(tmp_path, made(begun))
    staged = make_server(made(begun), PROFILES, NAMES, NOW)
    await desk.office.change(
        ANNA, "server.stage", "server", lambda document, now: (stage_server(document, staged), None)
    )
    old = desk.document.server.active
    desk.clock.now = begun + DUE - HOUR
    await keeper.round()
    assert desk.document.server.active == old
    desk.clock.now = begun + DUE + HOUR
    context = desk.office.access.server_context("api")
    await keeper.round()
    server = desk.document.server
    assert (server.previous, server.staged) == (old, staged), "what waits to be activated still does"
    assert certificate_of(server.active).not_valid_after_utc == desk.clock.now.replace(microsecond=0) + 397 * DAY
    assert server_names_of(certificate_of(server.active)) == set(configured().names)
    assert desk.office.access.server_context("api") is not context
    assert desk.audit.story[2:] == ["server.renew allow", "server.renew ok"]
    await keeper.round()
    assert desk.document.server == server


async def test_a_new_name_in_the_configuration_brings_a_new_certificate(tmp_path: Path) -> None:
    desk, keeper = keeping(tmp_path, config=Config(listeners={"api": Listener(names=("llm.example",))}))
    await keeper.round()
    assert "llm.example" in server_names_of(certificate_of(desk.document.server.active))
    generation = desk.document.generation
    await keeper.round()
    assert desk.document.generation == generation


# Trials.


def on_trial(trial: timedelta = HOUR) -> Credentials:
    document = stage_allow(made(NOW), {"api": Listener()}, NOW, add=[OFFICE])
    return apply_allow(document, NOW, trial)


async def test_a_trial_ends_at_its_time(tmp_path: Path) -> None:
    desk, keeper = keeping(tmp_path, on_trial())
    desk.clock.now = NOW + HOUR - timedelta(microseconds=1)
    await keeper.round()
    assert desk.office.access.allowlist("api").allows(HERE, NOW)
    desk.clock.now = NOW + HOUR
    await keeper.round()
    assert not desk.office.access.allowlist("api").allows(HERE, NOW)
    assert (desk.document.allow.entries, desk.document.allow.staged, desk.document.allow.trial) == ((), (OFFICE,), None)
    assert desk.audit.story == ["allow.revert allow", "allow.revert ok"]
    assert desk.audit.events[0].actor.principal == "appliance"


async def test_a_trial_does_not_outlast_a_clock_that_was_set_back(tmp_path: Path) -> None:
    desk, keeper = keeping(tmp_path, on_trial())
    desk.clock.now = NOW - DAY
    await keeper.round()
    assert desk.document.allow.trial is None
    assert desk.document.allow.entries == ()


async def test_a_confirmed_change_stays(tmp_path: Path) -> None:
    desk, keeper = keeping(tmp_path, on_trial())
    await desk.office.change(
        ANNA, "allow.confirm", "allowlist", lambda document, now: (confirm_allow(document, NOW), None)
    )
    desk.clock.now = NOW + DAY
    await keeper.round()
    assert desk.document.allow.entries == (OFFICE,)
    assert desk.audit.story == ["allow.confirm allow", "allow.confirm ok"]


async def test_a_trial_that_begins_while_another_ends_is_left_alone(tmp_path: Path) -> None:
    desk, keeper = keeping(tmp_path, on_trial())
    desk.clock.now = NOW + HOUR
    lab = AllowEntry(network="192.0.2.0/24")

    def confirm_and_go_on(document: Credentials, now: datetime) -> tuple[Credentials, None]:
        document = stage_allow(confirm_allow(document, NOW), {"api": Listener()}, NOW, add=[lab])
        return apply_allow(document, now, HOUR), None

    await asyncio.gather(desk.office.change(ANNA, "allow.apply", "allowlist", confirm_and_go_on), keeper.round())
    assert desk.document.allow.entries == (OFFICE, lab)
    assert desk.document.allow.trial is not None


# Ends of the allowlist's entries.

GUEST = AllowEntry(network="10.0.0.0/8", listener="api", until=NOW + HOUR)


def with_guest() -> Credentials:
    return replace(made(NOW), allow=AllowState.of((GUEST,)))


async def test_an_end_is_recorded_once_and_ends_connections(tmp_path: Path) -> None:
    desk, keeper = keeping(tmp_path, with_guest())
    cut: list[bool] = []

    def cutting() -> int:
        cut.append(desk.office.access.allowlist("api").allows(HERE, desk.clock.now))
        return 3

    desk.office.cut = cutting
    desk.clock.now = NOW + HOUR - timedelta(microseconds=1)
    await keeper.round()
    assert "allow.end allow" not in desk.audit.story
    assert desk.office.access.allowlist("api").allows(HERE, desk.clock.now)
    desk.clock.now = NOW + HOUR
    assert not desk.office.access.allowlist("api").allows(HERE, desk.clock.now), "before anybody looks"
    await keeper.round()
    assert cut == [False]
    (done,) = [event for event in desk.audit.events if (event.action, event.outcome) == ("allow.end", "ok")]
    assert done.actor.principal == "appliance"
    assert done.details == {"ended": "10.0.0.0/8 (api)", "generation": desk.document.generation, "cut": 3}
    assert desk.stored.allow.entries == (replace(GUEST, ended=True),)
    generation = desk.document.generation
    for moment in (NOW + 2 * HOUR, NOW):
        desk.clock.now = moment
        await keeper.round()
        assert not desk.office.access.allowlist("api").allows(HERE, moment), "nor does a clock that was set back count"
    assert desk.document.generation == generation


async def test_connections_end_though_the_end_cannot_be_recorded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    desk, keeper = keeping(tmp_path, with_guest())
    cut: list[bool] = []

    def cutting() -> int:
        cut.append(True)
        return 1

    desk.office.cut = cutting

    def full(event: AuditEvent) -> None:
        raise AuditUnavailable("the disk is full")

    desk.audit.trouble = full
    desk.clock.now = NOW + HOUR
    await keeper.round()
    assert "the disk is full" in caplog.text
    assert cut == [True]
    assert desk.document.allow.entries == (GUEST,), "it is tried again"
    desk.audit.trouble = lambda event: None
    await keeper.round()
    assert desk.document.allow.entries == (replace(GUEST, ended=True),)


async def test_who_is_shut_out_tomorrow_is_said_today_and_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    desk, keeper = keeping(tmp_path, with_guest())
    desk.clock.now = NOW + HOUR - DAY - timedelta(seconds=1)
    await keeper.round()
    desk.office.seen.note_address("api", HERE, desk.clock.now)
    assert caplog.messages == []
    desk.clock.now = NOW
    for _ in range(2):
        await keeper.round()
    (said,) = caplog.messages
    assert said == (
        f"the allowlist entry 10.0.0.0/8 (api) ends at {GUEST.until:%Y-%m-%d %H:%M} UTC; "
        "it alone lets in 10.0.0.1 of the last 24 hours"
    )
    (alarm,) = desk.audit.events
    assert (alarm.action, alarm.resource, alarm.reason) == (
        "allow.alarm",
        "the allowlist entry 10.0.0.0/8 (api)",
        "expires_soon",
    )
    assert alarm.details["addresses"] == 1


async def test_entries_are_known_from_when_they_first_count(tmp_path: Path) -> None:
    _, keeper = keeping(tmp_path, with_guest())
    await keeper.round()
    found = EntryHits(tmp_path / "allow_hits.json").of("10.0.0.0/8 api", NOW)
    assert found == Hits(last_day=0, last=None, since=NOW)


async def test_an_ended_entry_is_forgotten_after_a_month(tmp_path: Path) -> None:
    desk, keeper = keeping(tmp_path, with_guest())
    desk.clock.now = NOW + HOUR + FORGET_ENDED
    await keeper.round()
    assert [entry.ended for entry in desk.document.allow.entries] == [True]
    desk.clock.now += timedelta(seconds=1)
    await keeper.round()
    assert not desk.document.allow.entries
    assert desk.audit.story[-2:] == ["credentials.forget allow", "credentials.forget ok"]


async def test_what_cannot_be_recorded_is_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    desk, keeper = keeping(tmp_path, on_trial())
    desk.clock.now = NOW + HOUR

    def full(event: AuditEvent) -> None:
        raise AuditUnavailable("the disk is full")

    desk.audit.trouble = full
    await keeper.round()
    assert "end_trial: the disk is full" in caplog.text
    assert desk.document.allow.trial is not None
    desk.audit.trouble = lambda event: None
    await keeper.round()
    assert desk.document.allow.trial is None


# Keys.


async def test_keys_move_to_the_newest_pepper(tmp_path: Path) -> None:
    document, client = with_client(made(NOW))
    desk, keeper = keeping(tmp_path, add_pepper(document, b"2" * 32, NOW))
    desk.office.access.authenticate(client.peer(), [client.bearer])
    await keeper.round()
    assert desk.office.access.to_move == {}
    assert desk.stored.keys[client.key.kid].pepper == 2
    assert desk.audit.events[-1].details == {"keys": 1, "generation": 2, "cut": 0}
    assert desk.office.access.authenticate(client.peer(), [client.bearer]).id == "demo"
    await keeper.round()
    assert desk.document.generation == 2


async def test_a_key_that_was_used_just_before_the_pepper_changed_again_works_on(tmp_path: Path) -> None:
    document, client = with_client(made(NOW))
    desk, keeper = keeping(tmp_path, add_pepper(document, b"2" * 32, NOW))
    desk.office.access.authenticate(client.peer(), [client.bearer])
    rotate = desk.office.change(
        ANNA, "pepper.rotate", "pepper", lambda document, now: (add_pepper(document, b"3" * 32, now), None)
    )
    await asyncio.gather(rotate, keeper.round())
    record = desk.document.keys[client.key.kid]
    assert matches(client.key, record, peppers_of(desk.document))
    desk.office.access.authenticate(client.peer(), [client.bearer])
    await keeper.round()
    assert desk.document.keys[client.key.kid].pepper == 3
    assert desk.office.access.authenticate(client.peer(), [client.bearer]).id == "demo"


async def test_a_key_that_was_revoked_meanwhile_stays_revoked(tmp_path: Path) -> None:
    document, client = with_client(made(NOW))
    desk, keeper = keeping(tmp_path, add_pepper(document, b"2" * 32, NOW))
    desk.office.access.authenticate(client.peer(), [client.bearer])
    kid = client.key.kid
    await desk.office.change(ANNA, "key.revoke", kid, lambda document, now: (revoke_key(document, kid, now), None))
    await keeper.round()
    assert desk.document.keys[kid].state(NOW) == "revoked"


async def test_what_is_long_over_is_forgotten(tmp_path: Path) -> None:
    long_ago = NOW - FORGET_AFTER - 366 * DAY
    document, client = with_client(made(long_ago), now=long_ago)
    document = show_server(document, make_server(document, PROFILES, configured().names, NOW))
    desk, keeper = keeping(tmp_path, document)
    await keeper.round()
    assert client.key.kid not in desk.document.keys
    assert desk.document.issued == ()
    assert "credentials.forget ok" in desk.audit.story
    generation = desk.document.generation
    await keeper.round()
    assert desk.document.generation == generation


# Alarms.


def ending_at(end: datetime, name: str = "demo", kind: str = "client") -> Credentials:
    document, _ = sign_leaf(made(NOW), PROFILES, "client" if kind == "client" else "admin", name, NOW)
    issued = replace(document.issued[-1], not_after=end)
    return replace(document, issued=(issued,))


@pytest.mark.parametrize(
    ("left", "days"),
    [
        (30 * DAY + timedelta(seconds=1), None),
        (30 * DAY, 30),
        (14 * DAY + timedelta(seconds=1), 30),
        (14 * DAY, 14),
        (7 * DAY, 7),
        (DAY + timedelta(seconds=1), 7),
        (DAY, 1),
        (timedelta(0), 1),
        (timedelta(seconds=-1), 0),
        (-30 * DAY, 0),
        (-30 * DAY - timedelta(seconds=1), None),
    ],
)
def test_alarms_come_closer(left: timedelta, days: int | None) -> None:
    due = list(alarms(ending_at(NOW + left), NOW))
    assert due == ([] if days is None else [Alarm("the certificate of client demo", NOW + left, days)])


def test_everything_that_ends_is_named() -> None:
    late = NOW + 4000 * DAY
    what = {alarm.what for alarm in alarms(ending_at(late - DAY, "anna", "admin"), late)}
    assert what == {
        "the server certificate", "the server CA", "the client CA", "the admin CA", "the certificate of admin anna",
    }  # fmt: skip


@pytest.mark.parametrize(("left", "days"), [(15, None), (14, 14), (7, 7), (1, 1), (-1, None)])
def test_a_key_is_an_alarm_for_its_last_two_weeks(left: int, days: int | None) -> None:
    key = ApiKey.generate()
    document = add_key(made(NOW), key, "demo", NOW - 9 * DAY, (9 + left) * DAY)
    due = [] if days is None else [Alarm(f"the API key {key.kid} of demo", NOW + left * DAY, days)]
    assert list(alarms(document, NOW)) == due
    if left > 0:
        rotated = rotate_key(document, key.kid, ApiKey.generate(), NOW, grace=HOUR, life=90 * DAY)
        assert list(alarms(rotated, NOW)) == [], "it has a successor"
    assert list(alarms(revoke_key(document, key.kid, NOW), NOW)) == []


def test_of_a_client_the_newest_counts_and_a_revoked_one_not_at_all() -> None:
    old = ending_at(NOW + DAY)
    new = replace(old.issued[0], serial="ff", not_after=NOW + 90 * DAY)
    document = replace(old, issued=(new, *old.issued))
    assert list(alarms(document, NOW)) == []
    document = revoke(document, "certificate", new.reference, NOW, by="anna", reason="")
    assert [alarm.days for alarm in alarms(document, NOW)] == [1]
    assert list(alarms(revoke(document, "principal", "demo", NOW, by="anna", reason=""), NOW)) == []
    admin = revoke(ending_at(NOW + DAY, "demo", "admin"), "principal", "demo", NOW, by="anna", reason="")
    assert [alarm.what for alarm in alarms(admin, NOW)] == ["the certificate of admin demo"]


def alarmed(desk: Bench) -> list[object]:
    return [event.details["days"] for event in desk.audit.events if event.action == "certificate.alarm"]


async def test_each_alarm_is_given_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    desk, keeper = keeping(tmp_path, ending_at(NOW + 5 * DAY))
    for hours in range(-30 * 24, 7 * 24, 6):
        desk.clock.now = NOW + hours * HOUR
        await keeper.round()
    assert alarmed(desk) == [30, 14, 7, 1, 0]
    assert [message for message in caplog.messages if "client demo" in message] == [
        f"the certificate of client demo {how}: {NOW + 5 * DAY:%Y-%m-%d %H:%M} UTC"
        for how in (
            "ends within 30 days",
            "ends within 14 days",
            "ends within 7 days",
            "ends within 1 day",
            "has ended",
        )
    ]
    event = next(event for event in desk.audit.events if event.action == "certificate.alarm")
    assert (event.resource, event.reason) == ("the certificate of client demo", "expires_soon")
    assert event.details["not_after"] == (NOW + 5 * DAY).isoformat()


async def test_the_next_certificate_has_alarms_of_its_own(tmp_path: Path) -> None:
    desk, keeper = keeping(tmp_path, ending_at(NOW + DAY))
    await keeper.round()
    await desk.office.change(
        ANNA,
        "client.renew",
        "demo",
        lambda document, now: (sign_leaf(document, PROFILES, "client", "demo", now)[0], None),
    )
    await keeper.round()
    assert alarmed(desk) == [1]

    def nearly_over(document: Credentials, now: datetime) -> tuple[Credentials, None]:
        return replace(document, issued=tuple(replace(one, not_after=now + 2 * DAY) for one in document.issued)), None

    await desk.office.change(ANNA, "x.y", "demo", nearly_over)
    await keeper.round()
    await keeper.round()
    assert alarmed(desk) == [1, 7]


# The loop.


async def test_one_fault_does_not_keep_the_rest_from_happening(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    document, client = with_client(replace(made(NOW), allow=on_trial().allow))
    desk, keeper = keeping(tmp_path, document)

    def fault(event: AuditEvent) -> None:
        raise ZeroDivisionError("a fault")

    desk.audit.trouble = fault
    desk.clock.now = NOW + HOUR
    desk.office.access.authenticate(client.peer(address=HERE), [client.bearer])
    await keeper.round()
    assert "a fault" in caplog.text
    assert (tmp_path / "last_seen.json").exists()
    desk.audit.trouble = lambda event: None
    await keeper.round()
    assert desk.document.allow.trial is None


async def test_it_runs_by_itself_until_it_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "TICK_SECONDS", 0.001)
    monkeypatch.setattr(upkeep, "ROUND_TICKS", 3)
    monkeypatch.setattr(upkeep, "LONG_TICKS", 2)
    desk, _ = keeping(tmp_path, on_trial())
    renew = Chore(True, ZeroDivisionError("a fault"))
    prune = Chore(None)
    desk.clock.now = NOW + HOUR
    task = asyncio.get_running_loop().create_task(keeper_of(desk, renew, prune).run())
    await until(lambda: desk.document.allow.trial is None and renew.calls >= 3 <= prune.calls)
    assert desk.document.allow.entries == ()
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert desk.stored == desk.document


async def test_a_trial_ends_while_everything_is_sealed_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "TICK_SECONDS", 0.001)
    desk, _ = keeping(tmp_path, on_trial())
    begun = asyncio.Event()

    async def seal_for_minutes() -> bool:
        begun.set()
        await asyncio.Event().wait()
        return True

    keeper = Upkeep(desk.office, DiskGuard(tmp_path, Audit()), seal_for_minutes, Chore(None))
    desk.clock.now = NOW + HOUR
    task = asyncio.get_running_loop().create_task(keeper.run())
    await begun.wait()
    await until(lambda: desk.document.allow.trial is None)
    task.cancel()


async def test_a_key_that_has_to_stay_is_looked_at_ever_more_rarely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "TICK_SECONDS", 0.001)
    monkeypatch.setattr(upkeep, "ROUND_TICKS", 1)
    desk, _ = keeping(tmp_path)
    renew = Chore(False)
    task = asyncio.get_running_loop().create_task(keeper_of(desk, renew).run())
    began = time.monotonic()
    await asyncio.sleep(0.25)
    # After 1, 3, 7, 15, 31, 63, 127 and 255 ms, where the machine has time.
    assert renew.calls <= math.log2(1000 * (time.monotonic() - began)) + 2
    await until(lambda: renew.calls >= 2)
    task.cancel()
