"""Who is at the other end of the admin socket, by what the kernel says of its process. Mostly pure.

Roles come from the Unix groups that appliance.yaml names. root and the user that the daemon runs as have every role:
both could read the state directory anyway. What they do is in the audit log like everything else.
"""

from __future__ import annotations

import array
import errno
import grp
import os
import pwd
import socket
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, get_args

from appliance.access_config import AdminRole
from appliance.audit.record import Actor

ALL_ROLES: Final[frozenset[AdminRole]] = frozenset(get_args(AdminRole))
_KNOW_CLIENTS: Final[frozenset[AdminRole]] = frozenset({"operator", "security", "auditor"})
_UCRED: Final = struct.Struct("iII")
# <asm-generic/socket.h>; Python has no name for it. Python reads at most 1,024 bytes, which are 256 groups.
_SO_PEERGROUPS: Final = 59
_GROUPS_BYTES: Final = 1024


@dataclass(frozen=True, slots=True)
class Administrator:
    """Somebody who administers. name: a Unix user, or the name in an admin certificate. uid: None over TCP."""

    name: str
    roles: frozenset[AdminRole]
    uid: int | None
    address: str | None = None
    credential: str | None = None

    @property
    def knows_clients(self) -> bool:
        """Whether they may know who uses the appliance: who runs it may, and who looks into what happened."""
        return bool(self.roles & _KNOW_CLIENTS)

    @property
    def actor(self) -> Actor:
        """As the audit log names it."""
        return Actor(
            principal=self.name,
            role=" ".join(sorted(self.roles)) or "none",
            credential=self.credential,
            address=self.address,
            uid=self.uid,
        )


@dataclass(frozen=True, slots=True)
class LocalUser:
    """The user whose process connected to the Unix socket. uid, gids: as they were at that moment."""

    name: str
    uid: int
    gids: frozenset[int]

    @classmethod
    def of(cls, connection: Any) -> LocalUser:
        """Asks the kernel. connection: what asyncio calls the transport's socket."""
        _, uid, gid = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        try:
            members = array.array("I", connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_BYTES))
        except OSError as error:
            # More groups than fit: roles through any but the first are lost, which can only take something away.
            if error.errno != errno.ERANGE:
                raise
            members = array.array("I")
        return cls(_user_name(uid), uid, frozenset({gid, *members}))

    def administrator(self, groups: Mapping[AdminRole, Sequence[str]]) -> Administrator:
        """With the roles that these groups give now."""
        return Administrator(self.name, roles_of(self.uid, self.gids, os.geteuid(), groups), self.uid)


def roles_of(
    uid: int, gids: Iterable[int], own_uid: int, groups: Mapping[AdminRole, Sequence[str]]
) -> frozenset[AdminRole]:
    """The roles of a user in these groups. A group that does not exist on this host gives nobody a role."""
    if uid in (0, own_uid):
        return ALL_ROLES
    held = set(gids)
    return frozenset(role for role, names in groups.items() if any(_group_id(name) in held for name in names))


def _group_id(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
