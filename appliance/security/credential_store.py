"""The credentials document on disk: `secrets/credentials`, sealed, replaced as a whole.

Compare and swap: a change names the generation it was made from. Whoever computed it from an older one is refused and
loses nothing but the attempt.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final

import msgspec

from appliance.errors import StateError
from appliance.keyring.cipher import Cipher
from appliance.security.credentials import Credentials
from appliance.state_dir import read_private, write_atomic

FILE_BYTES_MAX: Final = 64 * 2**20
RECORD_ID: Final = "secrets/credentials"


def moved_on(expected: int, found: int) -> str:
    """Why nothing was changed for somebody who decided on generation `expected`."""
    return (
        f"the credentials are at generation {found}, not {expected}: somebody changed them meanwhile. "
        "Look at them again, then repeat the command"
    )


class GenerationMismatchError(StateError):
    """The document has changed since the change was computed."""

    def __init__(self, expected: int, found: int) -> None:
        super().__init__(moved_on(expected, found))
        self.found = found


class CredentialStore:
    """The document as it is now. The caller holds the state's daemon lock. Any thread may call anything."""

    def __init__(self, path: Path, cipher: Cipher, current: Credentials) -> None:
        self._path = path
        self._cipher = cipher
        self._current = current
        self._writing = threading.Lock()

    @classmethod
    def open(cls, path: Path, cipher: Cipher) -> CredentialStore:
        """Raises StateError where the file is missing, damaged or sealed with keys that are not here."""
        plain = cipher.unseal(RECORD_ID, read_private(path, FILE_BYTES_MAX))
        try:
            return cls(path, cipher, msgspec.msgpack.decode(plain, type=Credentials))
        except msgspec.DecodeError as error:
            raise StateError(f"{path} is damaged ({error}); restore it from a backup") from error

    @classmethod
    def found(cls, path: Path, cipher: Cipher, first: Credentials) -> CredentialStore:
        """Writes the first generation."""
        store = cls(path, cipher, first)
        store._write(first)
        return store

    @property
    def current(self) -> Credentials:
        """The generation that is durable."""
        return self._current

    def commit(self, expected: int, changed: Credentials) -> Credentials:
        """Makes `changed` the next generation, durably, and returns it.

        Raises GenerationMismatchError unless `expected` is the present one, StateError where it cannot be written;
        then the present one stays.
        """
        with self._writing:
            if expected != self._current.generation:
                raise GenerationMismatchError(expected, self._current.generation)
            following = msgspec.structs.replace(changed, generation=expected + 1)
            self._write(following)
            self._current = following
        return following

    def reseal(self) -> None:
        """Writes the same generation again, under the newest data key."""
        with self._writing:
            self._write(self._current)

    def _write(self, document: Credentials) -> None:
        sealed = self._cipher.seal(RECORD_ID, msgspec.msgpack.encode(document))
        if len(sealed) > FILE_BYTES_MAX:
            raise StateError(f"{self._path} would be larger than {FILE_BYTES_MAX} bytes; remove retired keys first")
        write_atomic(self._path, sealed)
