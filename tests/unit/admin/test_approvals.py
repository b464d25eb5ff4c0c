"""Two persons for one act."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.access_config import AdminRole
from appliance.admin.administrator import ALL_ROLES, Administrator
from appliance.admin.approvals import PENDING_MAX, Approval, Approvals
from appliance.errors import ChangeRefused

NOW = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
SECURITY: frozenset[AdminRole] = frozenset({"security"})
ANNA = Administrator("anna", ALL_ROLES, 1001)
BEN = Administrator("ben", ALL_ROLES, 1002)


def asked(approvals: Approvals, by: Administrator = ANNA, digest: str = "d", now: datetime = NOW) -> Approval:
    return approvals.ask(by, "key.revoke", "/admin/v1/keys/x/revoke", "reason: lost", SECURITY, digest, now)


def test_what_another_approves_is_done_once() -> None:
    approvals = Approvals(HOUR)
    one = asked(approvals)
    assert (one.what, one.approved_by, one.until) == ("reason: lost", None, NOW + HOUR)
    assert approvals.approve(one.id, BEN, NOW).approved_by == "ben"
    assert approvals.spend(one.id, ANNA, "d", NOW).approved_by == "ben"
    assert approvals.pending(NOW) == []
    with pytest.raises(ChangeRefused, match="there is no approval"):
        approvals.spend(one.id, ANNA, "d", NOW)


@pytest.mark.parametrize(
    "same",
    [
        Administrator("anna", SECURITY, 1001),
        Administrator("anna", SECURITY, 2000),
        Administrator("anna", SECURITY, None),
        Administrator("another-name", SECURITY, 1001),
    ],
)
def test_nobody_approves_their_own(same: Administrator) -> None:
    approvals = Approvals(HOUR)
    one = asked(approvals)
    with pytest.raises(ChangeRefused, match="somebody else must approve") as refused:
        approvals.approve(one.id, same, NOW)
    assert refused.value.code == "forbidden"
    with pytest.raises(ChangeRefused, match="still waits"):
        approvals.spend(one.id, ANNA, "d", NOW)


def test_two_who_come_over_tcp_are_two_although_neither_has_a_uid() -> None:
    approvals = Approvals(HOUR)
    one = asked(approvals, Administrator("anna", ALL_ROLES, None))
    assert approvals.approve(one.id, Administrator("ben", ALL_ROLES, None), NOW).approved_by == "ben"


def test_it_expires_whether_approved_or_not() -> None:
    approvals = Approvals(HOUR)
    one, two = asked(approvals), asked(approvals, digest="e")
    approvals.approve(one.id, BEN, NOW)
    late = NOW + HOUR
    with pytest.raises(ChangeRefused, match="it may have expired"):
        approvals.spend(one.id, ANNA, "d", late)
    with pytest.raises(ChangeRefused, match="it may have expired"):
        approvals.approve(two.id, BEN, late)
    assert approvals.pending(late) == []


def test_it_is_for_exactly_what_was_asked() -> None:
    approvals = Approvals(HOUR)
    one = asked(approvals)
    approvals.approve(one.id, BEN, NOW)
    with pytest.raises(ChangeRefused, match="for another act"):
        approvals.spend(one.id, ANNA, "other digest", NOW)
    with pytest.raises(ChangeRefused, match="for another act"):
        approvals.spend(one.id, BEN, "d", NOW)
    assert approvals.spend(one.id, ANNA, "d", NOW).id == one.id, "a wrong try spends it"


def test_asking_twice_for_the_same_is_one_request() -> None:
    approvals = Approvals(HOUR)
    assert asked(approvals) == asked(approvals)
    assert asked(approvals).id != asked(approvals, BEN).id
    assert asked(approvals).id != asked(approvals, digest="e").id
    assert len(approvals.pending(NOW)) == 3


def test_anybody_may_drop_it() -> None:
    approvals = Approvals(HOUR)
    one = asked(approvals)
    assert approvals.reject(one.id, NOW) == one
    with pytest.raises(ChangeRefused, match="there is no approval"):
        approvals.approve(one.id, BEN, NOW)


def test_requests_are_limited_until_some_are_decided_or_expire() -> None:
    approvals = Approvals(HOUR)
    ids = [asked(approvals, digest=str(number)).id for number in range(PENDING_MAX)]
    with pytest.raises(ChangeRefused, match="let some be decided"):
        asked(approvals)
    assert asked(approvals, digest="0").id == ids[0], "asking again for one that waits is no new request"
    approvals.reject(ids[0], NOW)
    asked(approvals)
    asked(approvals, digest="again", now=NOW + HOUR)


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["ask", "approve", "spend", "reject", "wait"]),
            st.sampled_from([ANNA, BEN]),
            st.sampled_from(["d", "e"]),
        ),
        max_size=30,
    )
)
def test_nothing_is_ever_spent_without_another_persons_word(
    steps: list[tuple[str, Administrator, str]],
) -> None:
    """A model beside it: who asked for a digest, and who has agreed since."""
    approvals, now, agreed = Approvals(HOUR), NOW, set[str]()
    known: dict[str, Approval] = {}
    for step, who, digest in steps:
        one = next((one for one in known.values() if one.digest == digest), None)
        try:
            if step == "ask":
                one = asked(approvals, who, digest, now)
                known[one.id] = one
            elif step == "wait":
                now += HOUR / 2
            elif one is not None and step == "approve":
                approvals.approve(one.id, who, now)
                assert who.name != one.asked_by
                agreed.add(one.id)
            elif one is not None and step == "reject":
                approvals.reject(one.id, now)
                known.pop(one.id)
            elif one is not None and step == "spend":
                approvals.spend(one.id, who, digest, now)
                assert one.id in agreed
                assert who.name == one.asked_by
                assert now < one.until
                known.pop(one.id)
        except ChangeRefused:
            continue


def test_to_agree_takes_a_role_of_the_act_itself() -> None:
    approvals = Approvals(HOUR)
    one = asked(approvals, ANNA)
    with pytest.raises(ChangeRefused, match="takes the role security") as caught:
        approvals.approve(one.id, Administrator("carl", frozenset({"operator"}), 1003), NOW)
    assert caught.value.code == "forbidden"
    assert approvals.approve(one.id, Administrator("carl", SECURITY, 1003), NOW).approved_by == "carl"
