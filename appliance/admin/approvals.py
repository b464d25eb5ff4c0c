"""Two persons for one act: what one administrator asks for, another must approve. Pure but for its own memory.

Kept in memory: after a restart nothing is approved any more.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from appliance.access_config import AdminRole
from appliance.admin.administrator import Administrator
from appliance.errors import ChangeRefused

PENDING_MAX: Final = 256


@dataclass(frozen=True, slots=True)
class Approval:
    """One request for a second person. digest: of method, path and body, so that what is approved is what is done.

    what: the body in short, for the one who is to agree. roles: those that may do it, and so agree to it.
    """

    id: str
    action: str
    resource: str
    what: str
    roles: frozenset[AdminRole]
    digest: str
    asked_by: str
    asked_uid: int | None
    until: datetime
    approved_by: str | None = None


class Approvals:
    """Belongs to the event loop."""

    def __init__(self, life: timedelta) -> None:
        self._life = life
        self._pending: dict[str, Approval] = {}

    def pending(self, now: datetime) -> list[Approval]:
        """What waits or was approved and not yet done, oldest first."""
        self._expire(now)
        return list(self._pending.values())

    def ask(
        self,
        administrator: Administrator,
        action: str,
        resource: str,
        what: str,
        roles: frozenset[AdminRole],
        digest: str,
        now: datetime,
    ) -> Approval:
        """Notes that `administrator` wants this; asking for the same again gives the same approval."""
        self._expire(now)
        for known in self._pending.values():
            if known.digest == digest and known.asked_by == administrator.name:
                return known
        if len(self._pending) >= PENDING_MAX:
            raise ChangeRefused("conflict", f"{PENDING_MAX} acts wait for approval already; let some be decided first")
        asked = Approval(
            id=secrets.token_hex(4),
            action=action,
            resource=resource,
            what=what,
            roles=roles,
            digest=digest,
            asked_by=administrator.name,
            asked_uid=administrator.uid,
            until=now + self._life,
        )
        self._pending[asked.id] = asked
        return asked

    def approve(self, approval: str, administrator: Administrator, now: datetime) -> Approval:
        """Another administrator agrees, who could have asked. Raises ChangeRefused."""
        found = self._find(approval, now)
        if not found.roles & administrator.roles:
            roles = " or ".join(sorted(found.roles))
            raise ChangeRefused("forbidden", f"to agree to {found.action} takes the role {roles}")
        if administrator.name == found.asked_by or (
            administrator.uid is not None and administrator.uid == found.asked_uid
        ):
            raise ChangeRefused("forbidden", f"{found.asked_by} asked for this; somebody else must approve it")
        approved = replace(found, approved_by=administrator.name)
        self._pending[approval] = approved
        return approved

    def reject(self, approval: str, now: datetime) -> Approval:
        """Drops it; also for the one who asked."""
        found = self._find(approval, now)
        del self._pending[approval]
        return found

    def spend(self, approval: str, administrator: Administrator, digest: str, now: datetime) -> Approval:
        """The one who asked does it now, once. Raises ChangeRefused unless exactly this was approved."""
        found = self._find(approval, now)
        if found.digest != digest or found.asked_by != administrator.name:
            raise ChangeRefused("conflict", f"approval {approval} is for another act: {found.action} {found.resource}")
        if found.approved_by is None:
            raise ChangeRefused("conflict", f"approval {approval} still waits for a second administrator")
        del self._pending[approval]
        return found

    def _find(self, approval: str, now: datetime) -> Approval:
        self._expire(now)
        found = self._pending.get(approval)
        if found is None:
            raise ChangeRefused("not_found", f"there is no approval {approval!r}; it may have expired")
        return found

    def _expire(self, now: datetime) -> None:
        for known in [known for known in self._pending.values() if known.until <= now]:
            del self._pending[known.id]
