"""Key-encryption keys and rings in real files; a real token where SoftHSM2 is installed."""

from __future__ import annotations

import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.keyring.file_kek import FileKek
from appliance.keyring.keyring import Keyring
from appliance.keyring.pkcs11_kek import TokenKey
from appliance.state_dir import write_atomic
from tests.unit.keyring.token_keys import create_key

MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so")
PIN = "1234-5678"
START = datetime(2026, 1, 1, tzinfo=UTC)


def start() -> datetime:
    """A clock that stands."""
    return START


def new_kek(folder: Path) -> FileKek:
    """A KEK of its own in a new folder."""
    folder.mkdir()
    return FileKek.open(folder, create=True)


@pytest.fixture
def kek(tmp_path: Path) -> FileKek:
    return new_kek(tmp_path / "kek")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keyring.json"


@pytest.fixture
def ring(path: Path, kek: FileKek) -> Keyring:
    return Keyring.open(path, kek, start, create=True)


@pytest.fixture(scope="session")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], TokenKey]]:
    """Makes the place of a key in a SoftHSM2 token; skips where there is none.

    SoftHSM reads its configuration once a process, so all tests share one token and use labels of their own.
    """
    module = next((name for name in MODULES if Path(name).exists()), None)
    if module is None or shutil.which("softhsm2-util") is None:
        pytest.skip("SoftHSM2 is not installed (Debian: apt-get install softhsm2)")
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder / 'tokens'}\nlog.level = ERROR\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(folder / "softhsm2.conf"))
        command = [
            "softhsm2-util",
            "--init-token",
            "--free",
            "--label",
            "appliance",
            "--so-pin",
            "87654321",
            "--pin",
            PIN,
        ]
        subprocess.run(command, check=True, capture_output=True)
        yield lambda label: TokenKey(module, "appliance", label, lambda: PIN)


@pytest.fixture
def token_key(token: Callable[[str], TokenKey]) -> TokenKey:
    """A key in the token."""
    where = token(secrets.token_hex(4))
    create_key(where)
    return where


def write_secret(path: Path, data: bytes) -> Path:
    """A file that only we may read."""
    write_atomic(path, data)
    return path
