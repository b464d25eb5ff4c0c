"""KEK in generation-numbered files beside what it protects: `secrets/kek.<generation>`, 32 random bytes, mode 0600.

For development, and where the disk is encrypted as a whole: who has the folder has the key. The newest generation
wraps; older ones unwrap until their file is removed.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from appliance.errors import StateError
from appliance.keyring.kek import KEY_BYTES, KekSource
from appliance.keyring.wrapping_key import WrappingKey
from appliance.state_dir import read_private, write_atomic

NAME: Final = "kek"
_NAME_PATTERN: Final = re.compile(rf"{NAME}\.([1-9][0-9]{{0,8}})")
# In front of what is wrapped, and part of its context: the generation, big-endian.
_GENERATION_BYTES: Final = 4


class FileKek:
    """All generations. Immutable."""

    __slots__ = ("_folder", "_keys", "newest")
    source: KekSource = "file"

    def __init__(self, folder: Path, keys: Mapping[int, WrappingKey]) -> None:
        assert keys, "a KEK has at least one generation"
        self._folder = folder
        self._keys = dict(keys)
        self.newest = max(keys)

    @classmethod
    def open(cls, folder: Path, *, create: bool) -> FileKek:
        """Reads `<folder>/kek.*`; with `create`, makes generation 1 where there is none. Raises StateError."""
        try:
            names = [path.name for path in folder.iterdir()]
        except OSError as error:
            raise StateError(f"{folder}: cannot be read: {error.strerror}") from error
        generations = [int(match[1]) for name in names if (match := _NAME_PATTERN.fullmatch(name))]
        if not generations:
            generations = [1]
            if create:
                _write(folder, 1)
        return cls(folder, {generation: _read(folder, generation) for generation in generations})

    def successor(self) -> FileKek:
        """Makes the next generation durable; data keys are wrapped by it after Keyring.rekey. Raises StateError."""
        _write(self._folder, self.newest + 1)
        return FileKek(self._folder, {**self._keys, self.newest + 1: _read(self._folder, self.newest + 1)})

    @property
    def id(self) -> str:
        return self._id(self.newest)

    def wrap(self, plaintext: bytes, context: bytes) -> bytes:
        head = self.newest.to_bytes(_GENERATION_BYTES, "big")
        return head + self._keys[self.newest].wrap(plaintext, head + context)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        head, body = wrapped[:_GENERATION_BYTES], wrapped[_GENERATION_BYTES:]
        generation = int.from_bytes(head, "big")
        if (key := self._keys.get(generation)) is None:
            raise StateError(f"{self._folder / f'{NAME}.{generation}'} is missing; restore it from a backup")
        if (plaintext := key.unwrap(body, head + context)) is None:
            raise StateError(
                f"{self._id(generation)} in {self._folder} is another key than the one that wrapped this, or what it "
                "wrapped is damaged; restore both from the same backup"
            )
        return plaintext

    def _id(self, generation: int) -> str:
        return f"{NAME}.{generation}:{self._keys[generation].fingerprint}"

    def __repr__(self) -> str:
        return f"FileKek({self.id})"


def _write(folder: Path, generation: int) -> None:
    write_atomic(folder / f"{NAME}.{generation}", secrets.token_bytes(KEY_BYTES))


def _read(folder: Path, generation: int) -> WrappingKey:
    path = folder / f"{NAME}.{generation}"
    # Our own backups leave it out, and wrap the keys anew.
    key = read_private(path, KEY_BYTES, if_missing="put it back, or restore a backup with `appliance backup restore`")
    if len(key) != KEY_BYTES:
        raise StateError(f"{path} holds {len(key)} bytes instead of {KEY_BYTES}; restore it from a backup")
    return WrappingKey(key)
