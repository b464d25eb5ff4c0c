"""appliance.security.pem_pair"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.errors import StateError
from appliance.security.certificates import KeyPair, new_ca
from appliance.security.pem_pair import certificate_pem, password_for, read_certificate, read_pair, write_pair
from appliance.state_dir import write_atomic


@pytest.fixture(scope="module")
def pair() -> KeyPair:
    return new_ca("CA", datetime.now(UTC))


@pytest.fixture
def path(tmp_path: Path, pair: KeyPair) -> Path:
    write_pair(tmp_path / "ca.pem", pair, b"password")
    return tmp_path / "ca.pem"


def test_a_pair_survives_the_file(path: Path, pair: KeyPair) -> None:
    read = read_pair(path, [b"newer", b"password"])
    assert read.certificate == pair.certificate
    assert read.key.private_numbers() == pair.key.private_numbers()
    assert read_certificate(path) == pair.certificate
    assert password_for(path, [b"newer", b"password"]) == b"password"
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_key_is_encrypted(path: Path) -> None:
    text = path.read_text()
    assert "BEGIN ENCRYPTED PRIVATE KEY" in text
    assert "BEGIN PRIVATE KEY" not in text
    with pytest.raises(StateError, match="no key-encryption key in secrets/ opens it"):
        read_pair(path, [b"wrong", b""])


def test_another_certificates_key_is_refused(path: Path, pair: KeyPair) -> None:
    other = new_ca("other", datetime.now(UTC))
    key = path.read_bytes().removeprefix(certificate_pem(pair.certificate))
    write_atomic(path, certificate_pem(other.certificate) + key)
    with pytest.raises(StateError, match="does not belong to the certificate"):
        read_pair(path, [b"password"])


@pytest.mark.parametrize("keep", [0, 100, 700, -100])
def test_a_cut_file_is_refused(path: Path, keep: int) -> None:
    write_atomic(path, path.read_bytes()[:keep])
    with pytest.raises(StateError):
        read_pair(path, [b"password"])
