"""Makes the answers true on a host: files, groups, the model directory, the sealed key. As root."""

from __future__ import annotations

import filecmp
import grp
import os
import pwd
import secrets
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from appliance.demo import DEMO_MODEL_PATH
from appliance.errors import StateError
from appliance.first_run.answers import Answers
from appliance.first_run.files import APPLIANCE_YAML, DEMO_FILE, GROUPS, MODELS_YAML, files
from appliance.first_run.handover import HANDOVER
from appliance.first_run.trial import check_taken
from appliance.state_dir import replacing, sync_folder

SOCKET_GROUP: Final = "appliance-admin"
MODELS_GROUP: Final = "appliance-models"
_CREDENTIAL: Final = Path("/etc/credstore.encrypted/appliance-kek")
_KEY_BYTES: Final = 32
_SECONDS_MAX: Final = 120.0


def carry_out(answers: Answers, root: Path = Path("/")) -> None:
    """Everything but the start. Done twice, it is the same. models.yaml, which says that it is done, comes last.

    Raises ConfigError, with nothing touched, where the product would not take what comes of them; StateError with what
    failed.
    """
    if os.geteuid() != 0:
        raise StateError("the first configuration is made as root: use sudo")
    check_taken(answers)
    _check_users(answers)
    _make_groups(answers)
    _make_model_dir(Path(answers.model_dir))
    put_models(Path(answers.model_dir), answers)
    if answers.key_encryption == "credential":
        seal_key(_CREDENTIAL)
    written = files(answers)
    if HANDOVER not in written:
        # Of other answers, whose try was cut short.
        (root / HANDOVER).unlink(missing_ok=True)
    for name in sorted(written, key=lambda name: name == MODELS_YAML):
        _write(root / name, written[name], 0o640 if name in (APPLIANCE_YAML, MODELS_YAML, HANDOVER) else 0o644)
    _run(["systemctl", "daemon-reload"])


def _check_users(answers: Answers) -> None:
    for user in answers.administrators:
        try:
            pwd.getpwnam(user)
        except KeyError:
            raise StateError(
                f"administrators: this host has no user {user}; make one, or correct the answers"
            ) from None


def _make_groups(answers: Answers) -> None:
    for group in GROUPS.values():
        _run(["groupadd", "--force", "--system", group])
    for user, roles in answers.administrators.items():
        _run(["usermod", "--append", "--groups", ",".join((SOCKET_GROUP, *(GROUPS[role] for role in roles))), user])


def _make_model_dir(folder: Path) -> None:
    if not folder.is_dir():
        folder.mkdir(parents=True)
        os.chown(folder, 0, grp.getgrnam(MODELS_GROUP).gr_gid)
        folder.chmod(0o2750)


def put_models(folder: Path, answers: Answers) -> None:
    """The demo model, where no other is answered. Raises StateError where one that is answered is not there."""
    if not answers.models and not _is_demo(folder / DEMO_FILE):
        # Never through a link: who may put models here may not say where root writes.
        with replacing(folder / DEMO_FILE) as file, DEMO_MODEL_PATH.open("rb") as source:
            shutil.copyfileobj(source, file)
        (folder / DEMO_FILE).chmod(0o644)
    for one in answers.models:
        if not (folder / one.file).is_file():
            raise StateError(f"models: {folder / one.file} is not there; copy it, and repeat")


def _is_demo(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and filecmp.cmp(path, DEMO_MODEL_PATH, shallow=False)


def seal_key(credential: Path) -> None:
    """A new key-encryption key that only this host opens, unless it has one: what it has sealed must stay readable."""
    if credential.exists():
        return
    credential.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = secrets.token_bytes(_KEY_BYTES)
    partial = credential.with_name(f".{credential.name}.partial")
    partial.unlink(missing_ok=True)
    _run(["systemd-creds", "encrypt", f"--name={credential.name}", "-", str(partial)], stdin=key)
    # What it seals may be on the disk before it is, and would be lost without it.
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(credential)
    sync_folder(credential.parent)


def _write(path: Path, text: str, mode: int) -> None:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(text.encode())
    path.chmod(mode)
    os.chown(path, 0, grp.getgrnam("appliance").gr_gid)


def _run(command: Sequence[str], stdin: bytes = b"") -> None:
    done = subprocess.run(command, input=stdin, capture_output=True, check=False, timeout=_SECONDS_MAX)
    if done.returncode != 0:
        raise StateError(f"{' '.join(command)} failed: {done.stderr.decode(errors='replace').strip()}")
