from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from installer.errors import Refused
from installer.layout import Layout
from installer.signature import fingerprint
from installer.trust import CARRIED, keep, trusted_keys
from release.signing import public_pem
from tests.unit.installer.made import FILES, KEY, bundle

PEM = public_pem(KEY)
SHOWN = fingerprint(PEM)


def never(question: str) -> bool:
    raise AssertionError(question)


@pytest.fixture
def carried(tmp_path: Path) -> Path:
    return bundle(tmp_path, {**FILES, CARRIED: PEM})


def test_on_the_first_day_the_paper_decides(tmp_path: Path, carried: Path) -> None:
    layout = Layout(tmp_path)
    assert list(trusted_keys(layout, carried, SHOWN.upper().replace(" ", ":"), never).values()) == [PEM]
    assert list(trusted_keys(layout, carried, None, lambda question: SHOWN in question).values()) == [PEM]
    with pytest.raises(Refused, match="not the one"):
        trusted_keys(layout, carried, SHOWN[:-1] + "x", never)
    with pytest.raises(Refused, match="without a key"):
        trusted_keys(layout, carried, None, lambda _: False)


def test_later_what_was_kept_decides(tmp_path: Path, carried: Path) -> None:
    layout = Layout(tmp_path)
    keep(layout, trusted_keys(layout, carried, SHOWN, never))
    other = bundle(tmp_path / "other", {CARRIED: b"-----BEGIN PUBLIC KEY-----\nof somebody else"})
    assert list(trusted_keys(layout, other, None, never).values()) == [PEM]
    successor = public_pem(Ed25519PrivateKey.generate())
    keep(layout, {"successor.pem": successor})
    assert trusted_keys(layout, carried, fingerprint(successor), never) == {"successor.pem": successor}
    with pytest.raises(Refused, match="no key in"):
        trusted_keys(layout, carried, SHOWN[:-1] + "x", never)


def test_a_bundle_without_a_key_is_none(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no bundle"):
        trusted_keys(Layout(tmp_path), bundle(tmp_path), SHOWN, never)
    with tarfile.open(tmp_path / "large.tar", "w") as tar:
        info = tarfile.TarInfo(CARRIED)
        info.size = 0
        tar.addfile(info)
    with pytest.raises(Refused, match="no public key"):
        trusted_keys(Layout(tmp_path), tmp_path / "large.tar", SHOWN, never)
