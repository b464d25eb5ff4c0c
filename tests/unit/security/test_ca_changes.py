"""appliance.security.ca_changes"""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from appliance.errors import ChangeRefused
from appliance.security.ca_changes import (
    finalize_rotation,
    issue_from_successor,
    roll_back,
    start_rotation,
    under_way,
)
from appliance.security.credentials import AUTHORITIES, AuthorityName, Credentials, StoredPair
from appliance.security.issuing import make_authority, sign_leaf, trust_pem
from appliance.security.stored_pair import certificate_of, certificate_pem
from tests.unit.security.making import DAY, HOUR, NOW, PROFILES, der_of, founded


@cache
def successor(number: int, name: AuthorityName) -> StoredPair:
    return make_authority(PROFILES, name, founded().appliance_id, NOW + number * HOUR)


def started(name: AuthorityName = "client") -> Credentials:
    return start_rotation(founded(), name, successor(1, name), NOW + HOUR)


def issuing(name: AuthorityName = "client") -> Credentials:
    return issue_from_successor(started(name), name, NOW + 2 * HOUR)


@pytest.mark.parametrize("name", AUTHORITIES)
def test_the_whole_way(name: AuthorityName) -> None:
    old, new = founded().authorities[name].current, successor(1, name)
    steps = [founded(), started(name), issuing(name)]
    steps.append(finalize_rotation(steps[-1], name, [], NOW + 3 * HOUR, force=False))
    authorities = [step.authorities[name] for step in steps]
    assert [authority.phase for authority in authorities] == ["standby", "trust_both", "issue_new", "standby"]
    assert [authority.trusted for authority in authorities] == [(old,), (old, new), (old, new), (new,)]
    assert [authority.issuing for authority in authorities] == [old, old, new, new]
    assert [authority.since for authority in authorities] == [NOW + number * HOUR for number in range(4)]
    others = [other for other in AUTHORITIES if other != name]
    assert all(step.authorities[other] == founded().authorities[other] for step in steps for other in others)


def test_what_is_under_way_is_said_with_the_next_step() -> None:
    assert under_way(founded()) == []
    (begun,), (following,) = under_way(started("server")), under_way(issuing())
    assert begun.endswith("(trust_both); next: `appliance certs rotate-ca server issue`")
    assert following.endswith("(issue_new); next: `appliance certs rotate-ca client finalize`")


@pytest.mark.parametrize("begun", [started(), issuing()], ids=["trust_both", "issue_new"])
def test_the_way_back(begun: Credentials) -> None:
    document = roll_back(begun, "client", NOW)
    assert document.authorities["client"].trusted == founded().authorities["client"].trusted
    assert document.authorities["client"].phase == "standby"
    with pytest.raises(ChangeRefused, match="no rotation of the client CA is under way"):
        roll_back(document, "client", NOW)


@pytest.mark.parametrize(
    ("document", "step", "following"),
    [
        (founded(), "issue", "start"),
        (founded(), "finalize", "start"),
        (started(), "start", "issue"),
        (started(), "finalize", "issue"),
        (issuing(), "start", "finalize"),
        (issuing(), "issue", "finalize"),
    ],
)
def test_a_step_out_of_turn_says_which_one_is_next(document: Credentials, step: str, following: str) -> None:
    with pytest.raises(ChangeRefused, match=f"the next step is `{following}`") as caught:
        take(document, step, 2)
    assert caught.value.code == "conflict"


def test_stragglers_hold_up_the_end_unless_it_is_forced() -> None:
    names = [f"client-{number}" for number in range(12)]
    with pytest.raises(ChangeRefused, match=r"12 showed .* CA in the last 7 days: client-0, .*client-9 …;") as caught:
        finalize_rotation(issuing(), "client", names, NOW, force=False)
    assert caught.value.code == "needs_force"
    done = finalize_rotation(issuing(), "client", names, NOW, force=True)
    assert done.authorities["client"].trusted == (successor(1, "client"),)


def test_what_others_are_given_to_trust_follows_the_phase() -> None:
    pems = [certificate_pem(founded().authorities["client"].current), certificate_pem(successor(1, "client"))]
    assert trust_pem(founded(), "client") == pems[0]
    assert trust_pem(started(), "client") == trust_pem(issuing(), "client") == b"".join(pems)


def take(document: Credentials, step: str, number: int) -> Credentials:
    match step:
        case "start":
            return start_rotation(document, "client", successor(number, "client"), NOW)
        case "issue":
            return issue_from_successor(document, "client", NOW)
        case "finalize":
            return finalize_rotation(document, "client", [], NOW, force=False)
        case _:
            return roll_back(document, "client", NOW)


class Rotation(RuleBasedStateMachine):
    """Any sequence of steps and certificates; whoever has a certificate knows who signed it."""

    @initialize()
    def begin(self) -> None:
        self.document = founded()
        self.started = 0
        self.trusted, self.signs = [founded().authorities["client"].current], 0

    @rule(step=st.sampled_from(["start", "issue", "finalize", "rollback"]))
    def step(self, step: str) -> None:
        phase = self.document.authorities["client"].phase
        in_turn = step == {"standby": "start", "trust_both": "issue", "issue_new": "finalize"}[phase]
        try:
            self.document = take(self.document, step, self.started + 1)
        except ChangeRefused:
            assert not in_turn
            assert step != "rollback" or phase == "standby"
            return
        match step:
            case "start":
                self.started += 1
                self.trusted.append(successor(self.started, "client"))
            case "issue":
                self.signs = 1
            case "finalize":
                self.trusted, self.signs = self.trusted[1:], 0
            case "rollback":
                self.trusted, self.signs = self.trusted[:1], 0

    @rule()
    def sign(self) -> None:
        document, leaf = sign_leaf(self.document, PROFILES, "client", "demo", NOW + DAY)
        (issued,) = set(document.issued) - set(self.document.issued)
        self.document = document
        signer = self.trusted[self.signs]
        certificate = certificate_of(StoredPair(certificate=der_of(leaf.certificate), key=None))
        certificate.verify_directly_issued_by(certificate_of(signer))
        assert issued.serial == f"{certificate.serial_number:x}"

    @invariant()
    def who_is_trusted_and_who_signs(self) -> None:
        authority = self.document.authorities["client"]
        assert list(authority.trusted) == self.trusted
        assert authority.issuing == self.trusted[self.signs]
        assert (authority.phase == "standby") == (len(self.trusted) == 1)
        assert authority.issuing in authority.trusted, "nothing is signed that is refused"


Rotation.TestCase.settings = settings(max_examples=25, stateful_step_count=15, deadline=None)
TestRotation = Rotation.TestCase
