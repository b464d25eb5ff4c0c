"""appliance.keyring.pkcs11_kek, against SoftHSM2"""

from __future__ import annotations

import dataclasses
import sys
import threading
from collections.abc import Callable

import pytest

from appliance.errors import ConfigError, StateError
from appliance.keyring.pkcs11_kek import Pkcs11Kek, TokenKey
from tests.unit.keyring.conftest import PIN


def test_the_key_stays_in_the_token(token_key: TokenKey) -> None:
    import pkcs11

    with pkcs11.lib(token_key.module).get_token(token_label=token_key.token).open(user_pin=PIN) as session:
        key = session.get_key(label=token_key.label)
        assert key[pkcs11.Attribute.SENSITIVE]
        assert not key[pkcs11.Attribute.EXTRACTABLE]
        with pytest.raises(pkcs11.PKCS11Error):
            key[pkcs11.Attribute.VALUE]


def test_another_login_opens_what_it_wrapped(token_key: TokenKey) -> None:
    wrapped = Pkcs11Kek.open(token_key).wrap(b"x" * 32, b"c")
    kek = Pkcs11Kek.open(token_key)
    assert kek.unwrap(wrapped, b"c") == b"x" * 32
    assert kek.id == f"appliance/{token_key.label}"


def test_threads_take_turns(token_key: TokenKey) -> None:
    kek = Pkcs11Kek.open(token_key)
    results: list[bytes] = []

    def work() -> None:
        results.extend(kek.unwrap(kek.wrap(b"x", b"c"), b"c") for _ in range(5))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [b"x"] * 15


def test_a_wrong_pin_is_tried_once(token_key: TokenKey) -> None:
    tried: list[str] = []

    def pin() -> str:
        tried.append("0000-0000")
        return tried[-1]

    with pytest.raises(StateError, match=r"refuses the PIN; correct key_encryption\.pkcs11_pin_file") as caught:
        Pkcs11Kek.open(dataclasses.replace(token_key, pin=pin))
    assert len(tried) == 1
    assert "0000" not in str(caught.value)
    Pkcs11Kek.open(token_key)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"module": "/nowhere/lib.so"}, "module /nowhere/lib.so cannot be loaded"),
        ({"token": "other"}, "not exactly one token 'other'; plug it in, or correct key_encryption.pkcs11_token"),
        ({"label": "missing"}, "no AES key 'missing'; create it there"),
    ],
)
def test_what_is_not_there_is_named(token_key: TokenKey, change: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Pkcs11Kek.open(dataclasses.replace(token_key, **change))  # type: ignore[arg-type]


def test_a_key_that_vanishes_later_is_a_matter_of_state(token_key: TokenKey) -> None:
    import pkcs11

    kek = Pkcs11Kek.open(token_key)
    with pkcs11.lib(token_key.module).get_token(token_label=token_key.token).open(rw=True, user_pin=PIN) as session:
        session.get_key(label=token_key.label).destroy()
    with pytest.raises(StateError, match="has no AES key"):
        kek.wrap(b"x", b"c")


@pytest.mark.parametrize(
    ("bits", "times", "message"), [(128, 1, "128 bits instead of 256"), (256, 2, "several AES keys")]
)
def test_an_unfit_key_is_refused(token: Callable[[str], TokenKey], bits: int, times: int, message: str) -> None:
    import pkcs11

    where = token(f"unfit-{bits}")
    with pkcs11.lib(where.module).get_token(token_label=where.token).open(rw=True, user_pin=PIN) as session:
        for _ in range(times):
            session.generate_key(pkcs11.KeyType.AES, bits, label=where.label, store=True)
    with pytest.raises(ConfigError, match=message):
        Pkcs11Kek.open(where)


def test_without_the_package_the_message_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    with pytest.raises(ConfigError, match="needs the package python-pkcs11"):
        Pkcs11Kek.open(TokenKey("/nowhere", "t", "k", lambda: PIN))
