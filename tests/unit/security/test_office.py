"""appliance.security.office"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace as with_fields
from datetime import datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from appliance.audit.errors import AuditUnavailable
from appliance.audit.record import Actor, AuditEvent
from appliance.config import Config
from appliance.errors import ChangeRefused, StateError
from appliance.security.access_view import AccessView
from appliance.security.certificate_facts import own_key_id
from appliance.security.credential_store import CredentialStore
from appliance.security.credentials import Credentials, StoredCrl
from appliance.security.crl import make_crl
from appliance.security.key_changes import add_pepper
from appliance.security.office import Change
from appliance.security.revocations import revoke
from appliance.security.stored_pair import load_pair
from tests.unit.security.making import DAY, NOW, Bench, bench, configured

ANNA = Actor(principal="anna", uid=1000)


@pytest.fixture
def desk(tmp_path: Path) -> Bench:
    return bench(tmp_path)


def revoking(name: str) -> Callable[[Credentials, datetime], tuple[Credentials, str]]:
    return lambda document, now: (revoke(document, "principal", name, now, by="anna", reason=""), f"{name} is out")


async def change(desk: Bench, name: str = "demo", expected: int | None = None, *, plan: bool = False) -> Change[str]:
    return await desk.office.change(ANNA, "client.revoke", name, revoking(name), expected=expected, plan=plan)


def out(desk: Bench) -> frozenset[str]:
    return desk.office.access.view.revocations.principals


async def test_the_order(desk: Bench) -> None:
    """View tested → asked → durable → swapped → cut → done."""
    order: list[str] = []

    def told(event: AuditEvent) -> None:
        order.append(f"{event.outcome}: durable {desk.stored.generation}, view {sorted(out(desk))}")

    def cut() -> int:
        order.append(f"cut: durable {desk.stored.generation}, view {sorted(out(desk))}")
        return 3

    desk.audit.trouble = told
    desk.office.cut = cut
    done = await change(desk)
    assert order == [
        "allow: durable 1, view []",
        "cut: durable 2, view ['demo']",
        "ok: durable 2, view ['demo']",
    ]
    assert done == Change("demo is out", 2, 3)
    asked, recorded = desk.audit.events
    assert (asked.actor, asked.action, asked.resource) == (ANNA, "client.revoke", "demo")
    assert recorded.details == {"generation": 2, "cut": 3}
    assert desk.office.access.view.document == desk.document == desk.stored


async def test_a_refused_change_is_recorded_and_changes_nothing(desk: Bench) -> None:
    def refuse(document: Credentials, now: datetime) -> tuple[Credentials, None]:
        raise ChangeRefused("conflict", "not like this")

    before, view = desk.document, desk.office.access.view
    with pytest.raises(ChangeRefused, match="not like this"):
        await desk.office.change(ANNA, "x.y", "thing", refuse)
    assert desk.audit.story == ["x.y deny"]
    assert desk.audit.events[0].reason == "not like this"
    assert desk.document is before
    assert desk.office.access.view is view


async def test_a_document_that_makes_no_view_is_refused(desk: Bench) -> None:
    def damage(document: Credentials, now: datetime) -> tuple[Credentials, None]:
        server = replace(document.server, active=document.authorities["client"].current)
        return replace(document, server=server), None

    view = desk.office.access.view
    with pytest.raises(StateError, match="no TLS"):
        await desk.office.change(ANNA, "server.renew", "server", damage)
    assert desk.audit.story == ["server.renew deny"]
    assert desk.stored.generation == 1
    assert desk.office.access.view is view


async def test_what_cannot_be_recorded_does_not_happen(desk: Bench) -> None:
    def full(event: AuditEvent) -> None:
        raise AuditUnavailable("the disk is full")

    desk.audit.trouble = full
    with pytest.raises(StateError, match="disk is full"):
        await change(desk)
    assert (desk.stored.generation, out(desk), desk.audit.story) == (1, frozenset(), [])


async def test_what_cannot_be_stored_leaves_the_old_view(desk: Bench) -> None:
    def full() -> None:
        raise StateError("no space left")

    desk.cipher.trouble = full
    with pytest.raises(StateError, match="no space left"):
        await change(desk)
    assert desk.audit.story == ["client.revoke allow", "client.revoke failed"]
    assert (desk.document.generation, out(desk)) == (1, frozenset())
    desk.cipher.trouble = lambda: None
    assert (await change(desk)).generation == 2


async def test_a_fault_of_ours_while_storing_is_recorded_too(desk: Bench) -> None:
    def fault() -> None:
        raise ZeroDivisionError("a fault")

    desk.cipher.trouble = fault
    with pytest.raises(ZeroDivisionError):
        await change(desk)
    assert desk.audit.story == ["client.revoke allow", "client.revoke failed"]
    assert (desk.document.generation, out(desk)) == (1, frozenset())


async def test_an_audit_log_that_fails_after_the_change_does_not_deny_it(desk: Bench) -> None:
    def full(event: AuditEvent) -> None:
        if event.outcome == "ok":
            raise AuditUnavailable("the disk is full")

    desk.audit.trouble = full
    assert (await change(desk)).generation == 2
    assert (desk.stored.generation, out(desk)) == (2, frozenset({"demo"}))
    assert desk.audit.story == ["client.revoke allow", "client.revoke ok"]
    assert await desk.office.perform(ANNA, "kek.rekey", "file", lambda: 7) == 7
    await desk.office.reconfigure(ANNA, configured())
    assert desk.audit.story[2:] == ["kek.rekey allow", "kek.rekey ok", "config.reload allow", "config.reload ok"]


async def test_what_must_follow_comes_before_the_next_change(desk: Bench) -> None:
    async def follow() -> None:
        assert (desk.stored.generation, out(desk)) == (2, frozenset({"a"}))
        await asyncio.sleep(0.01)
        assert desk.stored.generation == 2

    first = desk.office.change(ANNA, "seal_key.rotate", "key", revoking("a"), finish=follow)
    await asyncio.gather(first, change(desk, "b"))
    assert desk.audit.story[:3] == ["seal_key.rotate allow", "seal_key.rotate ok", "client.revoke allow"]


async def test_what_must_follow_and_fails_is_recorded(desk: Bench) -> None:
    async def follow() -> None:
        raise AuditUnavailable("the disk is full")

    with pytest.raises(AuditUnavailable):
        await desk.office.change(ANNA, "seal_key.rotate", "key", revoking("a"), finish=follow)
    assert desk.audit.story == ["seal_key.rotate allow", "seal_key.rotate failed"]
    assert desk.office.access.view.document == desk.stored
    assert (await change(desk, "b")).generation == 3


async def test_a_plan_changes_nothing_and_is_no_record(desk: Bench) -> None:
    assert await change(desk, plan=True) == Change("demo is out", 1, 0)
    assert (desk.stored.generation, out(desk), desk.audit.events) == (1, frozenset(), [])
    with pytest.raises(ChangeRefused):
        await change(desk, expected=7, plan=True)


async def test_nothing_to_change_is_no_generation(desk: Bench) -> None:
    await change(desk)
    assert await change(desk) == Change("demo is out", 2, 0)
    assert desk.audit.story[2:] == ["client.revoke ok"]
    assert desk.audit.events[-1].reason == "nothing to change"


async def test_a_change_decided_on_an_older_generation_is_refused(desk: Bench) -> None:
    assert (await change(desk, "a", expected=1)).generation == 2
    for expected in (1, 3):
        with pytest.raises(ChangeRefused) as caught:
            await change(desk, "b", expected=expected)
        assert caught.value.code == "generation_mismatch"
    # The answer was lost and the request comes again: If-Match keeps it from acting twice.
    with pytest.raises(ChangeRefused):
        await change(desk, "a", expected=1)
    assert out(desk) == {"a"}


async def test_two_at_once_become_one_after_the_other(desk: Bench) -> None:
    names = [f"client-{number}" for number in range(20)]
    done = await asyncio.gather(*(change(desk, name) for name in names))
    assert sorted(one.generation for one in done) == list(range(2, 22))
    assert out(desk) == set(names)
    assert desk.stored == desk.document
    # Nobody's record is between another's two.
    assert [event.resource for event in desk.audit.events] == [name for name in names for _ in "12"]


async def test_of_two_with_the_same_expectation_one_wins(desk: Bench) -> None:
    done = await asyncio.gather(*(change(desk, name, expected=1) for name in "ab"), return_exceptions=True)
    assert [type(one) for one in done] == [Change, ChangeRefused]
    assert out(desk) == {"a"}


class Slow:
    """Storing waits until it is told to go on."""

    def __init__(self, desk: Bench, trouble: Exception | None = None) -> None:
        self.begun, self.go_on, self.trouble = threading.Event(), threading.Event(), trouble
        desk.cipher.trouble = self._wait

    def _wait(self) -> None:
        self.begun.set()
        assert self.go_on.wait(60)
        if self.trouble is not None:
            raise self.trouble

    async def until_begun(self) -> None:
        assert await asyncio.to_thread(self.begun.wait, 60)


async def test_whoever_goes_away_while_it_is_stored_leaves_no_halves(desk: Bench) -> None:
    slow = Slow(desk)
    async with asyncio.TaskGroup() as group:
        leaving = group.create_task(change(desk, "a"))
        await slow.until_begun()
        for _ in range(3):
            leaving.cancel()
            await asyncio.sleep(0)
        following = group.create_task(change(desk, "b"))
        await asyncio.sleep(0.05)
        assert not leaving.done(), "it waits for its thread"
        assert not following.done(), "and the next one for it"
        slow.go_on.set()
    assert leaving.cancelled()
    assert following.result().generation == 3
    assert desk.stored == desk.document
    assert out(desk) == {"a", "b"}
    assert desk.audit.story == ["client.revoke allow", "client.revoke ok"] * 2


async def test_whoever_goes_away_before_it_cannot_be_stored(desk: Bench) -> None:
    slow = Slow(desk, StateError("no space left"))
    async with asyncio.TaskGroup() as group:
        leaving = group.create_task(change(desk, "a"))
        await slow.until_begun()
        leaving.cancel()
        await asyncio.sleep(0)
        slow.go_on.set()
    assert leaving.cancelled()
    assert desk.audit.story == ["client.revoke allow", "client.revoke failed"]
    assert (desk.stored.generation, out(desk)) == (1, frozenset())


async def test_whoever_goes_away_before_it_is_stored_has_changed_nothing(desk: Bench) -> None:
    async def stuck(event: AuditEvent) -> None:
        await asyncio.Event().wait()

    desk.audit.append_durably = stuck  # type: ignore[method-assign]
    async with asyncio.TaskGroup() as group:
        leaving = group.create_task(change(desk, "a"))
        await asyncio.sleep(0.01)
        leaving.cancel()
    assert (desk.stored.generation, out(desk)) == (1, frozenset())


async def test_work_in_a_thread_is_waited_for_by_the_next_one_and_by_no_change(desk: Bench) -> None:
    """A backup may take minutes; a revocation comes through meanwhile."""
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        assert go_on.wait(60)
        ended.set()

    async with asyncio.TaskGroup() as group:
        leaving = group.create_task(desk.office.perform(ANNA, "data_key.reseal", "state", work))
        assert await asyncio.to_thread(begun.wait, 60)
        leaving.cancel()
        following = group.create_task(desk.office.perform(ANNA, "backup.create", "file", lambda: None))
        async with asyncio.timeout(30):
            await change(desk)
        assert out(desk) == {"demo"}
        assert not (leaving.done() or following.done())
        go_on.set()
    assert ended.is_set()
    assert leaving.cancelled()
    begun_and_ended = [event.action for event in desk.audit.events if event.action != "client.revoke"]
    assert begun_and_ended == ["data_key.reseal"] * 2 + ["backup.create"] * 2


async def test_work_that_fails(desk: Bench) -> None:
    def work() -> None:
        raise StateError("no token")

    with pytest.raises(StateError, match="no token"):
        await desk.office.perform(ANNA, "kek.rekey", "pkcs11", work)
    assert desk.audit.story == ["kek.rekey allow", "kek.rekey failed"]


async def test_a_reload_swaps_the_configuration(desk: Bench) -> None:
    desk.office.cut = lambda: 2
    fresh = configured(Config(principals={}))
    assert await desk.office.reconfigure(ANNA, fresh) == 2
    assert desk.office.config is fresh.config
    assert desk.audit.story == ["config.reload allow", "config.reload ok"]
    assert desk.document.generation == 1


async def test_a_reload_that_makes_no_view_keeps_the_old_one(desk: Bench) -> None:
    view = desk.office.access.view
    with pytest.raises(StateError, match="no TLS"):
        await desk.office.reconfigure(ANNA, with_fields(configured(), names=("elsewhere.example",)))
    assert desk.office.access.view is view
    assert desk.audit.story == []


async def test_a_change_and_a_reload_at_once_keep_both(desk: Bench) -> None:
    fresh = configured(Config(principals={}))
    await asyncio.gather(change(desk), desk.office.reconfigure(ANNA, fresh), change(desk, "other"))
    assert out(desk) == {"demo", "other"}
    assert desk.office.config is fresh.config


async def test_a_restart_finds_what_was_answered(desk: Bench) -> None:
    await desk.office.change(
        ANNA, "pepper.rotate", "pepper", lambda document, now: (add_pepper(document, b"p" * 32, now), None)
    )
    again = CredentialStore.open(desk.path, desk.cipher).current
    assert AccessView.build(configured(), again).peppers.newest == 2
    assert again.peppers[-1].created == desk.clock.now


async def test_a_revocation_does_not_wait_for_what_the_loops_threads_do(desk: Bench) -> None:
    """Somebody verifies the whole audit log, as often as there are threads."""
    go_on = threading.Event()
    loop = asyncio.get_running_loop()
    busy = [loop.run_in_executor(None, go_on.wait, 60) for _ in range(40)]
    try:
        async with asyncio.timeout(30):
            assert (await change(desk)).generation == 2
    finally:
        go_on.set()
        await asyncio.gather(*busy)


async def test_answers_flow_on_while_a_view_is_compiled(desk: Bench) -> None:
    """A revocation list of 20,000 entries takes a tenth of a second."""
    ca = load_pair(desk.document.authorities["client"].current)
    data = make_crl(ca, dict.fromkeys(range(1, 20_001), NOW), 1, NOW, NOW + DAY)
    stored = StoredCrl(issuer_key_id=own_key_id(ca.certificate), data=data, imported=NOW)
    ticks, ticks_before = 0, []

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0)
            ticks += 1

    desk.audit.trouble = lambda event: ticks_before.append(ticks)
    ticking = asyncio.get_running_loop().create_task(tick())
    await desk.office.change(ANNA, "crl.import", "crl", lambda document, now: (replace(document, crls=(stored,)), None))
    ticking.cancel()
    assert len(desk.office.access.view.crls) == 1
    assert ticks_before[0] > 3, "before it is asked for, which comes after the test of the view"
