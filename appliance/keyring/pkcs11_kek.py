"""KEK in a PKCS#11 token (HSM, smart card, SoftHSM): an AES-256 key that never leaves it.

The token wraps by CKM_AES_GCM with a nonce that we give it (12 random bytes) and a tag of 128 bits; a token without
that mechanism is refused. Each use logs in, does its work and logs out (1.6 ms with SoftHSM), so that a token that
was restarted or plugged in again just works, and no PIN stays in memory.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from appliance.errors import ConfigError, StateError
from appliance.keyring.kek import KEY_BYTES, KekSource
from appliance.keyring.wrapping_key import NONCE_BYTES

if TYPE_CHECKING:
    import pkcs11

_TAG_BITS: Final = 128


@dataclass(frozen=True, slots=True)
class TokenKey:
    """Where a key is. module: path of the vendor's shared library. token, label: CKA_LABEL of the token and the key.

    pin: reads the user PIN; called at each use.
    """

    module: str
    token: str
    label: str
    pin: Callable[[], str]

    def __str__(self) -> str:
        return f"{self.token}/{self.label}"


class _TokenAes(Protocol):
    """What we use of a key object; the library adds `encrypt` and `decrypt` at run time."""

    @property
    def key_length(self) -> int: ...

    def encrypt(self, data: bytes, *, mechanism: Any, mechanism_param: Any) -> bytes: ...

    def decrypt(self, data: bytes, *, mechanism: Any, mechanism_param: Any) -> bytes: ...


class Pkcs11Kek:
    """One key of one token. Its lock keeps threads apart: a login holds for the whole process, and so does a logout."""

    __slots__ = ("_lock", "_where")
    source: KekSource = "pkcs11"

    def __init__(self, where: TokenKey) -> None:
        self._where = where
        self._lock = threading.Lock()

    @classmethod
    def open(cls, where: TokenKey) -> Pkcs11Kek:
        """Looks whether the key can be used. Raises ConfigError, or StateError for the PIN and the token itself."""
        with _session(where) as session:
            _find(session, where)
        return cls(where)

    @property
    def id(self) -> str:
        return str(self._where)

    def wrap(self, plaintext: bytes, context: bytes) -> bytes:
        nonce = secrets.token_bytes(NONCE_BYTES)
        with self._key() as key:
            body = key.encrypt(plaintext, mechanism=_gcm(), mechanism_param=_parameters(nonce, context))
        return nonce + body

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        nonce, body = wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:]
        failure = _import().PKCS11Error
        with self._key() as key:
            try:
                return key.decrypt(body, mechanism=_gcm(), mechanism_param=_parameters(nonce, context))
            except failure as error:
                # Tokens differ in the code they give for a wrong tag.
                raise StateError(
                    f"the token's key {self.id} did not wrap this, or what it wrapped is damaged "
                    f"({type(error).__name__}); restore the token's key and the keyring from the same backup"
                ) from error

    @contextlib.contextmanager
    def _key(self) -> Iterator[_TokenAes]:
        """The configuration was right once, so what is wrong with it now is the state of the token."""
        try:
            with self._lock, _session(self._where) as session:
                yield _find(session, self._where)
        except ConfigError as error:
            raise StateError(str(error)) from error

    def __repr__(self) -> str:
        return f"Pkcs11Kek({self.id})"


def _import() -> ModuleType:
    """Only who has a token needs the library, so nothing else waits for it or fails without it."""
    try:
        import pkcs11
    except ImportError as error:
        raise ConfigError(
            "key_encryption.source `pkcs11` needs the package python-pkcs11; install it, or choose another source"
        ) from error
    return pkcs11


@contextlib.contextmanager
def _session(where: TokenKey) -> Iterator[pkcs11.Session]:
    library = _import()
    try:
        module = library.lib(where.module)
    except library.PKCS11Error as error:
        raise ConfigError(f"the PKCS#11 module {where.module} cannot be loaded: {error}") from error
    try:
        token = module.get_token(token_label=where.token)
        if library.Mechanism.AES_GCM not in token.slot.get_mechanisms():
            raise ConfigError(f"the token {where.token!r} offers no AES-GCM; use another token or source")
        with token.open(user_pin=where.pin()) as session:
            yield session
    except (library.NoSuchToken, library.MultipleTokensReturned) as error:
        raise ConfigError(
            f"{where.module} shows not exactly one token {where.token!r}; plug it in, or correct "
            "key_encryption.pkcs11_token"
        ) from error
    except (library.PinIncorrect, library.PinInvalid, library.PinLenRange) as error:
        raise StateError(
            f"the token {where.token!r} refuses the PIN; correct key_encryption.pkcs11_pin_file before you try again, "
            "since tokens lock after a few wrong PINs"
        ) from error
    except library.PKCS11Error as error:
        reason = f"{type(error).__name__} {error}".strip()
        raise StateError(f"the token {where.token!r} does not do its work ({reason}); check it, then retry") from error


def _find(session: pkcs11.Session, where: TokenKey) -> _TokenAes:
    library = _import()
    attribute = library.Attribute
    wanted = {
        attribute.CLASS: library.ObjectClass.SECRET_KEY,
        attribute.KEY_TYPE: library.KeyType.AES,
        attribute.LABEL: where.label,
    }
    # A list: a search that is not read to its end would outlive the session.
    keys = list(session.get_objects(wanted))
    if not keys:
        raise ConfigError(
            f"the token {where.token!r} has no AES key {where.label!r}; create it there, or correct "
            "key_encryption.pkcs11_key"
        )
    if len(keys) > 1:
        raise ConfigError(
            f"the token {where.token!r} has several AES keys {where.label!r}; give the right one a label of its own"
        )
    key = cast(_TokenAes, keys[0])
    if key.key_length != 8 * KEY_BYTES:
        raise ConfigError(f"the token's key {where} has {key.key_length} bits instead of {8 * KEY_BYTES}")
    return key


def _gcm() -> pkcs11.Mechanism:
    mechanism: pkcs11.Mechanism = _import().Mechanism.AES_GCM
    return mechanism


def _parameters(nonce: bytes, context: bytes) -> pkcs11.GCMParams:
    parameters: pkcs11.GCMParams = _import().GCMParams(nonce, context, _TAG_BITS)
    return parameters
