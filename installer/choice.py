"""Whether a release may take the place of another. Pure."""

from __future__ import annotations

from installer.errors import Refused
from installer.manifest import Manifest


def check_upgrade(now: Manifest, then: Manifest, *, downgrade: bool) -> None:
    """Raises Refused where `then` must not follow `now`. downgrade: whether the operator agreed to an older one."""
    if then == now:
        raise Refused(f"{now.version} is installed already")
    if then.version == now.version:
        raise Refused(f"another build of {now.version} is installed; a release that differs needs another version")
    if then.sequence < now.sequence and needs_state_back(then, now):
        raise Refused(
            f"{then.version} is older than {now.version}, and does not read its state: where it is the release before, "
            "`appliance-setup rollback` goes back to it with its own; else install it anew with a backup of its time"
        )
    if then.sequence < now.sequence and not downgrade:
        raise Refused(
            f"{then.version} is older than {now.version}, which is installed: an old release may have faults that are "
            "known to attackers. --allow-downgrade installs it all the same, and it is recorded"
        )
    if now.sequence < then.upgrade_from:
        raise Refused(f"{then.version} takes over no state of {now.version}; install a release in between first")


def needs_state_back(before: Manifest, after: Manifest) -> bool:
    """Whether `before` could not read what `after` has written."""
    return before.state_format != after.state_format
