"""appliance.keyring.kek: what every source keeps to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.errors import StateError
from appliance.keyring.credential_kek import CredentialKek
from appliance.keyring.kek import Kek, fingerprint
from appliance.keyring.passphrase_kek import PassphraseKek, ScryptCost
from appliance.keyring.pkcs11_kek import Pkcs11Kek
from tests.unit.keyring.conftest import new_kek
from tests.unit.keyring.token_keys import create_key

CHEAP = ScryptCost(salt=b"s" * 32, n=2**14)
SOURCES = ("file", "credential", "passphrase", "pkcs11")
Pair = tuple[Kek, Kek]


@pytest.fixture(params=SOURCES)
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Pair:
    """Two keys of one source."""
    match request.param:
        case "file":
            return new_kek(tmp_path / "a"), new_kek(tmp_path / "b")
        case "credential":
            return CredentialKek("kek", b"a" * 32), CredentialKek("kek", b"b" * 32)
        case "passphrase":
            return PassphraseKek(CHEAP, "correct horse"), PassphraseKek(CHEAP, "battery staple")
        case _:
            place: Callable[[str], object] = request.getfixturevalue("token")
            keys = [place(f"{tmp_path.name}-{name}") for name in "ab"]
            for key in keys:
                create_key(key)  # type: ignore[arg-type]
            return Pkcs11Kek.open(keys[0]), Pkcs11Kek.open(keys[1])  # type: ignore[arg-type]


def test_it_unwraps_what_it_wrapped_and_no_other_does(pair: Pair) -> None:
    kek, other = pair
    wrapped = kek.wrap(b"a data key", b"context")
    assert b"a data key" not in wrapped
    assert kek.unwrap(wrapped, b"context") == b"a data key"
    assert kek.wrap(b"a data key", b"context") != wrapped
    for unwrap, context in ((other.unwrap, b"context"), (kek.unwrap, b"other context")):
        with pytest.raises(StateError, match=r"restore|give the unit|correct the passphrase"):
            unwrap(wrapped, context)


def test_a_flipped_bit_is_found_wherever_it_is(pair: Pair) -> None:
    kek, _ = pair
    wrapped = kek.wrap(b"a data key", b"context")
    for at in range(len(wrapped)):
        with pytest.raises(StateError):
            kek.unwrap(wrapped[:at] + bytes([wrapped[at] ^ 1]) + wrapped[at + 1 :], b"context")


@pytest.mark.parametrize("size", [0, 3, 12, 27])
def test_a_stump_is_refused(pair: Pair, size: int) -> None:
    with pytest.raises(StateError):
        pair[0].unwrap(b"\0\0\0\1".ljust(size, b"x")[:size], b"context")


def test_ids_tell_keys_apart_and_show_none(pair: Pair, request: pytest.FixtureRequest) -> None:
    kek, other = pair
    assert kek.source == other.source
    assert kek.id != other.id
    assert kek.id in repr(kek)
    assert "a" * 32 not in kek.id


def test_a_fingerprint_is_of_the_key_alone() -> None:
    assert fingerprint(b"a" * 32) == fingerprint(b"a" * 32)
    assert len({fingerprint(bytes([first]) * 32) for first in range(256)}) == 256
