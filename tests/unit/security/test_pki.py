"""appliance.security.pki"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature

from appliance.errors import StateError
from appliance.security.certificates import server_names_of
from appliance.security.identity import peer_identity
from appliance.security.pem_pair import read_certificate
from appliance.security.pki import Pki
from appliance.security.secret_files import Generations
from appliance.state_dir import write_atomic
from tests.security.forgery import der

START = datetime(2026, 1, 1, tzinfo=UTC)
KEKS = Generations("kek", {1: b"k" * 32})
NAMES = ("localhost", "127.0.0.1")


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pki(tmp_path: Path, clock: Clock) -> Pki:
    return Pki.open(tmp_path, KEKS, clock, create=True)


def server_serial(pki: Pki) -> int:
    return read_certificate(pki.server_path).serial_number


def test_opening_again_changes_nothing(pki: Pki, tmp_path: Path, clock: Clock) -> None:
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    again = Pki.open(tmp_path, KEKS, clock, create=True)
    assert again.appliance_id == pki.appliance_id
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_creation_cut_short_is_completed(pki: Pki, tmp_path: Path, clock: Clock) -> None:
    server_ca = pki.server_ca_pem
    (tmp_path / "client-ca.pem").unlink()
    again = Pki.open(tmp_path, KEKS, clock, create=True)
    assert again.server_ca_pem == server_ca
    assert again.client_ca_pem


@pytest.mark.parametrize("name", ["appliance-id", "server-ca.pem", "client-ca.pem"])
def test_what_is_missing_later_is_damage(pki: Pki, tmp_path: Path, clock: Clock, name: str) -> None:
    (tmp_path / name).unlink()
    with pytest.raises(StateError, match=f"{name} is missing; restore"):
        Pki.open(tmp_path, KEKS, clock, create=False)


@pytest.mark.parametrize("text", [b"", b"0123", b"0123456789abcdeg", b"../../../../etc"])
def test_a_damaged_id_is_refused(pki: Pki, tmp_path: Path, clock: Clock, text: bytes) -> None:
    write_atomic(tmp_path / "appliance-id", text)
    with pytest.raises(StateError, match="damaged"):
        Pki.open(tmp_path, KEKS, clock, create=False)


def test_the_two_authorities_are_two(pki: Pki) -> None:
    assert pki.server_ca_pem != pki.client_ca_pem


def test_a_client_is_of_the_client_authority_and_of_this_appliance(pki: Pki, tmp_path: Path) -> None:
    pair = pki.issue_client("demo")
    pair.certificate.verify_directly_issued_by(read_certificate(tmp_path / "client-ca.pem"))
    with pytest.raises((ValueError, InvalidSignature)):
        pair.certificate.verify_directly_issued_by(read_certificate(tmp_path / "server-ca.pem"))
    assert peer_identity(der(pair), pki.appliance_id).name == "demo"


def test_the_server_certificate_is_issued_once(pki: Pki) -> None:
    assert pki.ensure_server_certificate(NAMES)
    serial = server_serial(pki)
    assert not pki.ensure_server_certificate(NAMES)
    assert not pki.ensure_server_certificate(NAMES[:1]), "a name too many is no reason"
    assert server_serial(pki) == serial


def test_a_new_name_is_a_reason_to_issue(pki: Pki) -> None:
    pki.ensure_server_certificate(NAMES)
    assert pki.ensure_server_certificate((*NAMES, "llm.example"))
    assert server_names_of(read_certificate(pki.server_path)) == {*NAMES, "llm.example"}


def test_a_last_third_of_life_is_a_reason_to_issue(pki: Pki, clock: Clock) -> None:
    pki.ensure_server_certificate(NAMES)
    clock.now = START + timedelta(days=264)
    assert not pki.ensure_server_certificate(NAMES)
    clock.now = START + timedelta(days=265)
    assert pki.ensure_server_certificate(NAMES)


def test_another_authority_is_a_reason_to_issue(pki: Pki, tmp_path: Path, clock: Clock) -> None:
    pki.ensure_server_certificate(NAMES)
    for name in ("appliance-id", "server-ca.pem"):
        (tmp_path / name).unlink()
    assert Pki.open(tmp_path, KEKS, clock, create=True).ensure_server_certificate(NAMES)


def test_private_keys_need_the_key_encryption_key(pki: Pki, tmp_path: Path, clock: Clock) -> None:
    pki.ensure_server_certificate(NAMES)
    for path in tmp_path.glob("*.pem"):
        assert b"BEGIN ENCRYPTED PRIVATE KEY" in path.read_bytes()
    stranger = Pki.open(tmp_path, Generations("kek", {1: b"x" * 32}), clock, create=False)
    with pytest.raises(StateError, match="no key-encryption key"):
        stranger.issue_client("demo")
    with pytest.raises(StateError, match="no key-encryption key"):
        _ = stranger.server_password


def test_an_older_key_encryption_key_still_opens_what_it_encrypted(pki: Pki, tmp_path: Path, clock: Clock) -> None:
    newer = Generations("kek", {1: b"k" * 32, 2: b"n" * 32})
    Pki.open(tmp_path, newer, clock, create=False).issue_client("demo")
