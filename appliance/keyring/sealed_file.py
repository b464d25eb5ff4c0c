"""Whole files under a key of the ring.

The record id is the file's name below its root, so files cannot be exchanged, moved or renamed. An older content of the
same file does open: what must not be rolled back needs a number of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from appliance.keyring.keyring import OVERHEAD_BYTES, PurposeCipher
from appliance.state_dir import read_private, write_atomic


@dataclass(frozen=True, slots=True)
class SealedFiles:
    """Files below `root` that `cipher` seals. Every call blocks for the disk and raises StateError.

    name: the file's path below `root`, with `/` between parts.
    """

    root: Path
    cipher: PurposeCipher

    def write(self, name: str, plaintext: bytes) -> None:
        """Replaces the file as a whole, durably. Its folder exists."""
        write_atomic(self._path(name), self.cipher.seal(_record_id(name), plaintext))

    def read(self, name: str, bytes_max: int) -> bytes:
        """What was written under this name, of at most `bytes_max`."""
        sealed = read_private(self._path(name), bytes_max + OVERHEAD_BYTES)
        return self.cipher.unseal(_record_id(name), sealed)

    def renew(self, name: str, bytes_max: int) -> bool:
        """Seals the file again where an older key sealed it; says whether it did. Nobody else may be writing it."""
        sealed = read_private(self._path(name), bytes_max + OVERHEAD_BYTES)
        if self.cipher.is_current(sealed):
            return False
        self.write(name, self.cipher.unseal(_record_id(name), sealed))
        return True

    def _path(self, name: str) -> Path:
        assert all(part not in ("", ".", "..") for part in name.split("/")), "a name has one spelling"
        return self.root / name


def _record_id(name: str) -> str:
    return f"file|{name}"
