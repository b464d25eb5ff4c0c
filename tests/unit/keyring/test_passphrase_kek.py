"""appliance.keyring.passphrase_kek"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from appliance.errors import ConfigError, StateError
from appliance.keyring.passphrase_kek import FILE_NAME, PassphraseKek, ScryptCost
from tests.unit.keyring.conftest import write_secret

CHEAP = ScryptCost(salt=b"s" * 32, n=2**14)
PASSPHRASE = "correct horse battery"


def write_cost(folder: Path, cost: ScryptCost = CHEAP) -> None:
    write_secret(folder / FILE_NAME, msgspec.json.encode(cost))


def test_salt_and_passphrase_make_the_key(tmp_path: Path) -> None:
    write_cost(tmp_path)
    first = PassphraseKek.open(tmp_path, PASSPHRASE, create=False)
    wrapped = first.wrap(b"x", b"c")
    again = PassphraseKek.open(tmp_path, PASSPHRASE, create=True)
    assert again.unwrap(wrapped, b"c") == b"x"
    assert again.id == first.id
    other_salt = PassphraseKek(msgspec.structs.replace(CHEAP, salt=b"t" * 32), PASSPHRASE)
    assert other_salt.id != first.id
    with pytest.raises(StateError, match=r"not the one that wrapped this.*correct the passphrase"):
        PassphraseKek.open(tmp_path, PASSPHRASE + " ", create=False).unwrap(wrapped, b"c")


@pytest.mark.slow
def test_a_new_salt_is_random_and_the_cost_is_that_of_the_design(tmp_path: Path) -> None:
    PassphraseKek.open(tmp_path, PASSPHRASE, create=True)
    cost = msgspec.json.decode((tmp_path / FILE_NAME).read_bytes(), type=ScryptCost)
    assert (cost.n, cost.r, cost.p, len(cost.salt)) == (2**17, 8, 1, 32)
    (tmp_path / FILE_NAME).unlink()
    PassphraseKek.open(tmp_path, PASSPHRASE, create=True)
    assert msgspec.json.decode((tmp_path / FILE_NAME).read_bytes(), type=ScryptCost).salt != cost.salt


def test_the_salt_is_made_on_the_first_start_only(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=f"{FILE_NAME} is missing; restore"):
        PassphraseKek.open(tmp_path, PASSPHRASE, create=False)


def test_a_short_passphrase_is_refused_without_showing_it(tmp_path: Path) -> None:
    write_cost(tmp_path)
    with pytest.raises(ConfigError, match="has 11 characters; it needs at least 12") as caught:
        PassphraseKek.open(tmp_path, "short-passw", create=False)
    assert "short" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"\xff",
        b'{"version":2,"salt":"c3Nzc3Nzc3Nzc3Nzc3Nzc3M="}',
        b'{"version":1,"salt":"c3M="}',
        b'{"version":1,"salt":"c3Nzc3Nzc3Nzc3Nzc3Nzc3M=","n":1024}',
        b'{"version":1,"salt":"c3Nzc3Nzc3Nzc3Nzc3Nzc3M=","n":1099511627776}',
        b'{"version":1,"salt":"c3Nzc3Nzc3Nzc3Nzc3Nzc3M=","n":16385}',
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    write_secret(tmp_path / FILE_NAME, content)
    with pytest.raises(StateError, match=r"is damaged .*restore"):
        PassphraseKek.open(tmp_path, PASSPHRASE, create=True)
