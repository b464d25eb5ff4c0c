"""appliance.keyring.secret_input"""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import ConfigError, StateError
from appliance.keyring.secret_input import read_credential, read_secret_text
from tests.unit.keyring.conftest import write_secret


def test_without_systemd_the_message_says_so() -> None:
    for environment in ({}, {"CREDENTIALS_DIRECTORY": ""}):
        with pytest.raises(ConfigError, match="CREDENTIALS_DIRECTORY is not set; add `LoadCredentialEncrypted=kek`"):
            read_credential("kek", environment)


def test_a_credential_may_be_readable_by_a_group(tmp_path: Path) -> None:
    (tmp_path / "kek").write_bytes(b"secret")
    (tmp_path / "kek").chmod(0o440)
    assert read_credential("kek", {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == b"secret"


@pytest.mark.parametrize("name", ["missing", "..", "."])
def test_what_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_credential(name, {"CREDENTIALS_DIRECTORY": str(tmp_path)})


def test_a_credential_has_a_limit(tmp_path: Path) -> None:
    (tmp_path / "kek").write_bytes(b"x" * 1025)
    with pytest.raises(ConfigError, match="larger than 1024 bytes"):
        read_credential("kek", {"CREDENTIALS_DIRECTORY": str(tmp_path)})


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_one_line_end_does_not_count(tmp_path: Path, end: str) -> None:
    path = write_secret(tmp_path / "pin", f" pässword {end}".encode())
    assert read_secret_text(str(path), {}) == " pässword "
    assert read_secret_text("pin", {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == " pässword "


@pytest.mark.parametrize("content", [b"", b"\n", b"a\nb\n", b"a\n\n", b"a\0b", b"\xff\xfe"])
def test_what_is_not_one_line_of_text_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ConfigError, match=r"one line of text|UTF-8"):
        read_secret_text(str(write_secret(tmp_path / "pin", content)), {})


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = write_secret(tmp_path / "pin", b"1234")
    path.chmod(0o644)
    with pytest.raises(StateError, match="other users may have read it"):
        read_secret_text(str(path), {})


def test_a_path_is_absolute() -> None:
    with pytest.raises(ConfigError, match="absolute path, or the name of a credential"):
        read_secret_text("secrets/pin", {})
