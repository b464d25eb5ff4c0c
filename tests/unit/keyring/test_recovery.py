"""appliance.keyring.recovery"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import ConfigError
from appliance.keyring.recovery import RecoveryPublicKey, RecoverySecretKey, generate_recovery_key

SECRET, PUBLIC = generate_recovery_key()
LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def test_the_texts_are_one_pair() -> None:
    secret, public = RecoverySecretKey.parse(SECRET), RecoveryPublicKey.parse(PUBLIC)
    assert secret.public.raw == public.raw
    assert secret.public.fingerprint == public.fingerprint
    assert (secret.text, public.text) == (SECRET, PUBLIC)
    assert generate_recovery_key() != (SECRET, PUBLIC)


def test_the_form_is_fit_for_paper() -> None:
    for text, kind in ((SECRET, "apl-recovery-secret:"), (PUBLIC, "apl-recovery-public:")):
        groups = text.removeprefix(kind).split("-")
        assert [len(group) for group in groups] == [4] * 14
        assert set("".join(groups)) <= set(LETTERS)


def test_a_person_may_write_it_otherwise() -> None:
    kind, _, body = SECRET.partition(":")
    loose = f" {kind.upper()}:\n" + body.replace("-", " ").lower().replace("0", "o").replace("1", "l") + "\n"
    assert RecoverySecretKey.parse(loose).text == SECRET
    assert RecoverySecretKey.parse(SECRET.replace("1", "I").replace("0", "O")).text == SECRET


@given(at=st.integers(0, 55), letter=st.sampled_from(LETTERS))
def test_a_wrong_letter_is_noticed(at: int, letter: str) -> None:
    kind, _, body = PUBLIC.partition(":")
    letters = body.replace("-", "")
    wrong = letters[:at] + letter + letters[at + 1 :]
    if wrong == letters:
        assert RecoveryPublicKey.parse(f"{kind}:{wrong}").text == PUBLIC
    else:
        with pytest.raises(ConfigError, match="wrong letter somewhere"):
            RecoveryPublicKey.parse(f"{kind}:{wrong}")


@given(st.integers(0, 54))
def test_two_letters_exchanged_are_noticed(at: int) -> None:
    kind, _, body = PUBLIC.partition(":")
    letters = body.replace("-", "")
    swapped = letters[:at] + letters[at + 1] + letters[at] + letters[at + 2 :]
    if swapped != letters:
        with pytest.raises(ConfigError):
            RecoveryPublicKey.parse(f"{kind}:{swapped}")


@pytest.mark.parametrize(
    "text",
    ["", "x", PUBLIC, SECRET[:-1], SECRET + "A", SECRET[:-1] + "U", SECRET[:-1] + "é"],
    ids=["empty", "x", "public", "short", "long", "no such letter", "not ASCII"],
)
def test_anything_else_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RecoverySecretKey.parse(text)
    assert SECRET[30:50] not in str(caught.value)


def test_the_halves_are_not_mixed_up() -> None:
    with pytest.raises(ConfigError, match="begins with `apl-recovery-public:`"):
        RecoveryPublicKey.parse(SECRET)


def test_it_prints_no_secret() -> None:
    secret = RecoverySecretKey.parse(SECRET)
    assert repr(secret) == f"RecoverySecretKey({secret.public.fingerprint.hex()})"
