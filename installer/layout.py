"""Where things are on a host. Releases lie side by side, and the link `current` says which one counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# Folders of a release's `systemd/`, and where systemd looks for what is in them. Not /etc: that is the site's, and
# overrules these.
UNIT_FOLDERS: Final[Mapping[str, str]] = {
    "system": "usr/local/lib/systemd/system",
    "sysusers.d": "usr/local/lib/sysusers.d",
    "tmpfiles.d": "usr/local/lib/tmpfiles.d",
    "journald.conf.d": "usr/local/lib/systemd/journald.conf.d",
}


@dataclass(frozen=True, slots=True)
class Layout:
    """root: `/`, or a folder that stands for it."""

    root: Path

    @property
    def product(self) -> Path:
        return self.root / "opt/appliance"

    @property
    def releases(self) -> Path:
        return self.product / "releases"

    @property
    def current(self) -> Path:
        return self.product / "current"

    @property
    def previous(self) -> Path:
        """Leads to the release before, once there was one."""
        return self.product / "previous"

    @property
    def journal(self) -> Path:
        """What is going on; there only while something is."""
        return self.product / "change.json"

    @property
    def history(self) -> Path:
        return self.product / "history.jsonl"

    @property
    def trusted_keys(self) -> Path:
        return self.product / "release-keys"

    @property
    def state(self) -> Path:
        return self.root / "var/lib/appliance"

    @property
    def snapshots(self) -> Path:
        return self.root / "var/lib/appliance-snapshots"

    @property
    def settings(self) -> Path:
        return self.root / "etc/appliance"

    @property
    def sealed_key(self) -> Path:
        """The key-encryption key, where the first configuration has sealed one to this host."""
        return self.root / "etc/credstore.encrypted/appliance-kek"

    @property
    def commands(self) -> Mapping[Path, str]:
        """What people call, and which file of the current release that is."""
        return {
            self.root / "usr/local/bin/appliance": "venv/bin/appliance",
            self.root / "usr/local/sbin/appliance-setup": "appliance-setup",
        }
