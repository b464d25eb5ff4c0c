"""What code that stores records needs of a keyring; `Keyring.cipher` makes one."""

from __future__ import annotations

from typing import Protocol


class Cipher(Protocol):
    """Encryption at rest under the appliance's data keys. Used from several threads at once."""

    def seal(self, record_id: str, plaintext: bytes) -> bytes:
        """Encrypts and binds the result to `record_id`, which must be given again to open it."""
        ...

    def unseal(self, record_id: str, sealed: bytes) -> bytes:
        """The inverse. Raises StateError for what was changed, moved, or sealed under keys that are gone."""
        ...


class RotatingCipher(Cipher, Protocol):
    """A cipher whose key can be replaced; older keys still open."""

    def is_current(self, sealed: bytes) -> bool:
        """Whether the newest key sealed this."""
        ...
