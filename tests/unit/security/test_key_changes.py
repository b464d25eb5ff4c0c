"""appliance.security.key_changes"""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule
from msgspec.structs import replace

from appliance.errors import ChangeRefused
from appliance.security import key_changes
from appliance.security.api_keys import ApiKey, matches
from appliance.security.credentials import Credentials
from appliance.security.key_changes import (
    FORGET_AFTER,
    GRACE_MAX,
    add_key,
    add_pepper,
    forget_keys,
    keys_under,
    move_keys,
    peppers_of,
    retire_pepper,
    revoke_key,
    rotate_key,
)
from tests.unit.security.making import DAY, HOUR, NOW, founded

LIFE = 90 * DAY


def with_key(document: Credentials | None = None) -> tuple[Credentials, ApiKey]:
    key = ApiKey.generate()
    return add_key(document or founded(), key, "demo", NOW, LIFE, "laptop"), key


def rotated(document: Credentials, kid: str, grace: timedelta = DAY, **options: bool) -> tuple[Credentials, ApiKey]:
    key = ApiKey.generate()
    return rotate_key(document, kid, key, NOW, grace=grace, life=LIFE, **options), key


def states(document: Credentials, *keys: ApiKey, at: datetime = NOW) -> list[str]:
    return [document.keys[key.kid].state(at) for key in keys]


def works(document: Credentials, key: ApiKey, now: datetime) -> bool:
    """As a request is judged."""
    record = document.keys.get(key.kid)
    genuine = matches(key, record, peppers_of(document))
    return genuine and record is not None and record.state(now) in ("active", "retiring")


def test_a_new_key_is_recorded_without_its_secret() -> None:
    document, key = with_key()
    record = document.keys[key.kid]
    assert (record.principal, record.label, record.created, record.not_after) == ("demo", "laptop", NOW, NOW + LIFE)
    assert record.pepper == 1
    assert matches(key, record, peppers_of(document))
    assert key.secret.encode() not in record.hmac
    assert founded().keys == {}, "the document before is as it was"


def test_there_are_not_more_keys_than_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_changes, "KEYS_MAX", 2)
    document, key = with_key(with_key()[0])
    with pytest.raises(ChangeRefused, match="revoke and forget old ones first") as caught:
        with_key(document)
    assert caught.value.code == "conflict"
    with pytest.raises(ChangeRefused):
        rotated(document, key.kid)


def test_a_successor_works_beside_its_predecessor_until_the_grace_is_over() -> None:
    document, old = with_key()
    document, new = rotated(document, old.kid)
    assert states(document, old, new) == ["retiring", "active"]
    assert states(document, old, new, at=NOW + DAY - timedelta(microseconds=1)) == ["retiring", "active"]
    assert states(document, old, new, at=NOW + DAY) == ["retired", "active"]
    assert states(document, old, new, at=NOW + LIFE) == ["retired", "expired"]
    assert document.keys[old.kid].successor == new.kid
    assert (document.keys[new.kid].principal, document.keys[new.kid].label) == ("demo", "laptop")


@pytest.mark.parametrize("grace", [-timedelta(microseconds=1), GRACE_MAX + timedelta(microseconds=1)])
def test_the_grace_has_bounds(grace: timedelta) -> None:
    document, key = with_key()
    with pytest.raises(ChangeRefused, match="0 to 14 days") as caught:
        rotated(document, key.kid, grace)
    assert caught.value.code == "invalid"


@pytest.mark.parametrize("grace", [timedelta(0), GRACE_MAX])
def test_the_bounds_themselves_are_allowed(grace: timedelta) -> None:
    document, key = with_key()
    document, _ = rotated(document, key.kid, grace)
    assert document.keys[key.kid].retire_at == NOW + grace
    assert states(document, key) == ["retiring" if grace else "retired"]


def test_grace_does_not_lengthen_a_life() -> None:
    key = ApiKey.generate()
    document, _ = rotated(add_key(founded(), key, "demo", NOW, HOUR), key.kid, DAY)
    assert document.keys[key.kid].works_until == NOW + HOUR
    assert states(document, key, at=NOW + HOUR) == ["expired"]


def test_only_a_key_that_is_active_can_be_rotated() -> None:
    document, key = with_key()
    document, successor = rotated(document, key.kid)
    with pytest.raises(ChangeRefused, match=f"is retiring; its successor is {successor.kid}"):
        rotated(document, key.kid)
    gone = revoke_key(document, successor.kid, NOW)
    with pytest.raises(ChangeRefused, match="is retiring; make a new key instead"):
        rotated(gone, key.kid)
    with pytest.raises(ChangeRefused, match="is revoked; make a new key instead"):
        rotated(gone, successor.kid)
    with pytest.raises(ChangeRefused, match="there is no API key 'nobody'") as caught:
        rotated(document, "nobody")
    assert caught.value.code == "not_found"


def test_a_third_key_of_a_line_waits_or_is_forced() -> None:
    document, first = with_key()
    document, second = rotated(document, first.kid)
    with pytest.raises(ChangeRefused, match=f"its predecessor {first.kid} still works") as caught:
        rotated(document, second.kid)
    assert caught.value.code == "needs_force"
    document, third = rotated(document, second.kid, force=True)
    assert states(document, first, second, third) == ["retired", "retiring", "active"]


def test_without_grace_left_nobody_waits() -> None:
    document, first = with_key()
    document, second = rotated(document, first.kid, timedelta(0))
    document, third = rotated(document, second.kid)
    assert states(document, first, second, third) == ["retired", "retiring", "active"]


def test_a_revocation_is_for_ever_and_made_once() -> None:
    document, key = with_key()
    document = revoke_key(document, key.kid, NOW)
    again = revoke_key(document, key.kid, NOW + DAY)
    assert again is document
    assert states(document, key, at=NOW - 9 * DAY) == ["revoked"]
    with pytest.raises(ChangeRefused):
        revoke_key(document, "nobody", NOW)


def test_keys_that_have_long_not_worked_are_forgotten() -> None:
    document, expired = with_key()
    document, revoked = with_key(document)
    document, live = with_key(document)
    eternal = ApiKey.generate()
    document = add_key(document, eternal, "demo", NOW, LIFE)
    document = replace(
        document, keys={**document.keys, eternal.kid: replace(document.keys[eternal.kid], not_after=None)}
    )
    document = revoke_key(document, revoked.kid, NOW)
    document = replace(
        document, keys={**document.keys, live.kid: replace(document.keys[live.kid], not_after=NOW + 999 * DAY)}
    )
    assert forget_keys(document, NOW + FORGET_AFTER) is document
    later = forget_keys(document, NOW + FORGET_AFTER + timedelta(seconds=1))
    assert later.keys.keys() == {expired.kid, live.kid, eternal.kid}
    much_later = forget_keys(document, NOW + LIFE + FORGET_AFTER + timedelta(seconds=1))
    assert much_later.keys.keys() == {live.kid, eternal.kid}
    assert not works(much_later, revoked, NOW), "unknown is refused as well, whatever the clock says then"


def test_a_pepper_can_be_retired_when_nobody_needs_it() -> None:
    document, moving = with_key()
    document, expired = with_key(document)
    document = add_pepper(document, b"2" * 32, NOW)
    hashes = {moving.kid: (2, peppers_of(document).hash(2, moving))}
    with pytest.raises(ChangeRefused, match="2 working keys have not been used") as caught:
        retire_pepper(document, 1, NOW, force=False)
    assert caught.value.code == "needs_force"
    document = move_keys(document, hashes)
    assert keys_under(document, 1, NOW) == [expired.kid]
    late = NOW + LIFE
    assert retire_pepper(document, 1, late, force=False).keys == document.keys
    forced = retire_pepper(document, 1, NOW, force=True)
    assert [pepper.id for pepper in forced.peppers] == [2]
    assert states(forced, moving, expired) == ["active", "revoked"]
    assert works(forced, moving, NOW)


@pytest.mark.parametrize(("pepper", "code"), [(2, "conflict"), (3, "not_found")])
def test_the_newest_pepper_stays(pepper: int, code: str) -> None:
    document = add_pepper(founded(), b"2" * 32, NOW)
    with pytest.raises(ChangeRefused) as caught:
        retire_pepper(document, pepper, NOW, force=True)
    assert caught.value.code == code


def test_pepper_numbers_are_not_used_again() -> None:
    document = add_pepper(founded(), b"2" * 32, NOW)
    document = retire_pepper(document, 1, NOW, force=False)
    assert [pepper.id for pepper in add_pepper(document, b"3" * 32, NOW).peppers] == [2, 3]


def test_hashes_of_what_is_gone_are_left_out() -> None:
    document, key = with_key()
    assert move_keys(document, {}) is document
    assert move_keys(document, {"nobody": (1, b"h")}) is document
    assert move_keys(document, {key.kid: (2, b"h")}) is document, "no such pepper"
    document = add_pepper(document, b"2" * 32, NOW)
    moved = move_keys(document, {key.kid: (2, peppers_of(document).hash(2, key))})
    back = {key.kid: (1, peppers_of(document).hash(1, key))}
    assert move_keys(moved, back) is moved, "an older pepper"
    assert works(moved, key, NOW)


class KeyLife(RuleBasedStateMachine):
    """Any sequence of changes, against what a bystander would expect of each key."""

    keys = Bundle("keys")

    @initialize()
    def begin(self) -> None:
        self.document, self.now, self.latest = founded(), NOW, NOW
        self.all: dict[str, ApiKey] = {}
        self.revoked: set[str] = set()
        self.lines: list[list[str]] = []

    def _made(self, key: ApiKey) -> str:
        self.all[key.kid] = key
        return key.kid

    @rule(target=keys, days=st.integers(1, 30))
    def add(self, days: int) -> str:
        key = ApiKey.generate()
        self.document = add_key(self.document, key, "demo", self.now, days * DAY)
        self.lines.append([key.kid])
        return self._made(key)

    @rule(target=keys, kid=keys, hours=st.integers(-1, 15 * 24), force=st.booleans())
    def rotate(self, kid: str, hours: int, force: bool) -> object:
        key, grace, before = ApiKey.generate(), hours * HOUR, self.document
        state = before.keys[kid].state(self.now)
        try:
            self.document = rotate_key(before, kid, key, self.now, grace=grace, life=30 * DAY, force=force)
        except ChangeRefused:
            assert state != "active" or not timedelta(0) <= grace <= GRACE_MAX or not force
            return multiple()
        assert state == "active"
        assert timedelta(0) <= grace <= GRACE_MAX
        next(line for line in self.lines if kid in line).append(key.kid)
        return self._made(key)

    @rule(kid=keys)
    def revoke(self, kid: str) -> None:
        self.document = revoke_key(self.document, kid, self.now)
        self.revoked.add(kid)

    @rule(secret=st.binary(min_size=32, max_size=32))
    def rotate_pepper(self, secret: bytes) -> None:
        self.document = add_pepper(self.document, secret, self.now)

    @rule(kid=keys)
    def use(self, kid: str) -> None:
        """As a request and, later, upkeep do."""
        key, peppers = self.all[kid], peppers_of(self.document)
        if works(self.document, key, self.now):
            self.document = move_keys(self.document, {kid: (peppers.newest, peppers.hash(peppers.newest, key))})
            assert self.document.keys[kid].pepper == peppers.newest

    @rule(number=st.integers(1, 4), force=st.booleans())
    def retire(self, number: int, force: bool) -> None:
        left = keys_under(self.document, number, self.now)
        try:
            self.document = retire_pepper(self.document, number, self.now, force=force)
        except ChangeRefused:
            return
        assert force or not left
        self.revoked |= set(left)

    @rule(hours=st.integers(-48, 20 * 24))
    def time_passes(self, hours: int) -> None:
        """Also backwards: somebody sets the clock."""
        self.now += hours * HOUR
        self.latest = max(self.latest, self.now)

    @invariant()
    def at_most_two_keys_of_a_line_work(self) -> None:
        """By a clock that was never ahead of this moment: one that is set back gives time back to what had retired."""
        for line in self.lines:
            assert sum(works(self.document, self.all[kid], self.latest) for kid in line) <= 2

    @invariant()
    def a_revoked_key_never_works_again(self) -> None:
        for kid in self.revoked:
            assert self.document.keys[kid].state(self.now) == "revoked"
            assert not works(self.document, self.all[kid], self.now)

    @invariant()
    def a_key_that_should_work_does(self) -> None:
        """But for one that had expired when its pepper went, and lives again by a clock that was set back."""
        peppers = {pepper.id for pepper in self.document.peppers}
        for kid, record in self.document.keys.items():
            if record.state(self.now) in ("active", "retiring") and record.pepper in peppers:
                assert works(self.document, self.all[kid], self.now)

    @invariant()
    def the_newest_pepper_is_there(self) -> None:
        ids = [pepper.id for pepper in self.document.peppers]
        assert ids == sorted(set(ids))
        assert ids


KeyLife.TestCase.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)
TestKeyLife = KeyLife.TestCase
