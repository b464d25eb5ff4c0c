"""Who the kernel says is there, and which roles groups give."""

from __future__ import annotations

import grp
import os
import pwd
import socket
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.access_config import AdminRole
from appliance.admin.administrator import ALL_ROLES, Administrator, LocalUser, roles_of

GROUPS = grp.getgrall()[:6]
NOBODY = 65_530


def test_root_and_the_daemons_own_user_have_every_role() -> None:
    assert roles_of(0, [], 1000, {}) == ALL_ROLES
    assert roles_of(1000, [], 1000, {}) == ALL_ROLES
    assert {"viewer", "operator", "security", "auditor"} == ALL_ROLES


def test_a_role_comes_from_any_of_its_groups() -> None:
    one, two, three = (group.gr_name for group in GROUPS[:3])
    groups: dict[AdminRole, tuple[str, ...]] = {"viewer": (one, two), "security": (three,)}
    assert roles_of(NOBODY, [GROUPS[1].gr_gid], 1000, groups) == {"viewer"}
    assert roles_of(NOBODY, [GROUPS[0].gr_gid, GROUPS[2].gr_gid], 1000, groups) == {"viewer", "security"}
    assert roles_of(NOBODY, [GROUPS[3].gr_gid], 1000, groups) == frozenset()


def test_a_group_that_does_not_exist_gives_nobody_a_role() -> None:
    assert roles_of(NOBODY, [GROUPS[0].gr_gid, 4_000_000_000], 1000, {"security": ("no-such-group",)}) == frozenset()


@settings(max_examples=40)
@given(
    held=st.sets(st.sampled_from([group.gr_gid for group in GROUPS])),
    groups=st.dictionaries(
        st.sampled_from(sorted(ALL_ROLES)), st.lists(st.sampled_from([group.gr_name for group in GROUPS])).map(tuple)
    ),
)
def test_no_group_no_role(held: set[int], groups: dict[AdminRole, tuple[str, ...]]) -> None:
    found = roles_of(NOBODY, held, 1000, groups)
    for role in ALL_ROLES:
        assert (role in found) == any(grp.getgrnam(name).gr_gid in held for name in groups.get(role, ()))


def test_the_kernel_knows_who_made_a_socketpair() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        user = LocalUser.of(ours)
    assert (user.uid, user.name) == (os.geteuid(), pwd.getpwuid(os.geteuid()).pw_name)
    assert user.gids >= {os.getegid()}
    assert user.administrator({}) == Administrator(user.name, ALL_ROLES, user.uid)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_groups_and_user_are_those_of_the_moment_of_connecting() -> None:
    """In a child: what a process of another user sees itself as, as the listener sees it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([GROUPS[1].gr_gid, GROUPS[2].gr_gid])
            os.setgid(GROUPS[3].gr_gid)
            os.setuid(NOBODY)
            ours, _theirs = socket.socketpair()
            user = LocalUser.of(ours)
            os.write(writing, repr((user.name, user.uid, sorted(user.gids))).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    assert said == repr((f"uid {NOBODY}", NOBODY, sorted(group.gr_gid for group in GROUPS[1:4])))


class ManyGroups:
    """A connection of somebody in more groups than Python reads."""

    def __init__(self, real: socket.socket) -> None:
        self._real = real

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        if option == socket.SO_PEERCRED:
            return self._real.getsockopt(level, option, size)
        raise OSError(34, "Numerical result out of range")


def test_more_groups_than_can_be_read_only_take_roles_away() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection: Any = ManyGroups(ours)
        assert LocalUser.of(connection).gids == {os.getegid()}


def test_the_audit_log_names_roles_in_one_order() -> None:
    actor = Administrator("anna", frozenset({"security", "operator"}), 1001, "192.0.2.1", "ab12").actor
    assert (actor.principal, actor.role, actor.uid) == ("anna", "operator security", 1001)
    assert (actor.address, actor.credential) == ("192.0.2.1", "ab12")
    assert Administrator("ben", frozenset(), None).actor.role == "none"
