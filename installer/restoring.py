"""A backup becomes the state of a host on which nothing was served yet."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from installer.errors import Refused, StepFailed
from installer.layout import Layout

_USER: Final = "appliance"
_CREDENTIAL: Final = "appliance-kek"
# What is there without keys is no state yet: they come last.
_KEYS: Final = "secrets"
# The host's own.
_STAYS: Final = frozenset({"models", "run"})
_SECONDS_MAX: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Backup:
    """archive: as `appliance backup create` wrote it. secret: the file with the secret half of the recovery key."""

    archive: Path
    secret: Path


def check_restore(layout: Layout, backup: Backup) -> None:
    """Raises Refused where there is a state already, or a file is missing."""
    for path in (backup.archive, backup.secret):
        if not path.is_file():
            raise Refused(f"{path} is not there")
    if (layout.state / _KEYS).is_dir() and any((layout.state / _KEYS).iterdir()):
        raise Refused(
            f"{layout.state} has keys already: a backup is restored where nothing was served yet. Where an interrupted "
            "try has restored it, the same command without --restore goes on"
        )


def restore(layout: Layout, backup: Backup) -> None:
    """Puts the backup into the state directory, for the service's user. Done again after a half, it is the same.

    The product itself unpacks and proves it, with the key-encryption key that the service will have.
    Raises StepFailed.
    """
    # The state may be on a disk of its own, and only there can what is unpacked be renamed into it.
    unpacked = layout.state / ".backup"
    shutil.rmtree(unpacked, ignore_errors=True)
    command = (
        *("systemd-run", "--quiet", "--pipe", "--wait", "--collect"),
        f"--property=LoadCredentialEncrypted={_CREDENTIAL}",
        *(str(layout.current / "venv/bin/python"), "-I", "-m", "appliance", "backup", "restore"),
        *(str(backup.archive.resolve()), "--into", str(unpacked)),
        *("--recovery-secret-file", str(backup.secret.resolve())),
    )
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=_SECONDS_MAX
    )
    if done.returncode != 0:
        raise StepFailed(f"the backup is not restored: {(done.stderr or done.stdout).strip()}")
    _give(unpacked)
    for entry in sorted(unpacked.iterdir(), key=lambda path: (path.name == _KEYS, path.name)):
        if entry.name not in _STAYS:
            shutil.rmtree(layout.state / entry.name, ignore_errors=True)
            entry.rename(layout.state / entry.name)
    os.sync()
    shutil.rmtree(unpacked)


def _give(folder: Path) -> None:
    user = pwd.getpwnam(_USER)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
