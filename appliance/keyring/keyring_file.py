"""`secrets/keyring.json`: data keys, each wrapped by a KEK.

Readers need no lock: the file changes as a whole. Writers (threads, and other processes of the appliance) take turns by
a lock on `keyring.json.lock` beside it, and each changes what the one before it left. Not authenticated as a whole:
who can write the file can as well put back an older one. A key itself is bound to its purpose, generation and id.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from appliance.errors import StateError
from appliance.state_dir import open_lock_file, read_private, try_lock, write_atomic

FILE_BYTES_MAX: Final = 4 * 2**20
KEYS_MAX: Final = 4096
# NIST SP 800-38D allows 2^32 messages with random nonces; half of that leaves room for a count that ran ahead.
MESSAGES_MAX: Final = 2**31
LOCK_WAIT_SECONDS: Final = 10.0
_LOCK_POLL_SECONDS: Final = 0.005

KeyId = Annotated[str, Meta(pattern=r"^[0-9a-f]{16}\Z")]
# A later version's purposes are kept, so that a version may be rolled back.
PurposeName = Annotated[str, Meta(pattern=r"^[a-z]{1,32}\Z")]
Generation = Annotated[int, Meta(ge=1, le=10**9)]
Messages = Annotated[int, Meta(ge=0, le=MESSAGES_MAX)]
CreationTime = Annotated[datetime, Meta(tz=True)]


class WrappedKey(Struct, frozen=True, kw_only=True):
    """One data key. kek: the id of the KEK that wrapped it, for a person to read.

    reserved: how many messages may have been sealed with it, at most; always ahead of the true count.
    """

    id: KeyId
    purpose: PurposeName
    generation: Generation
    created: CreationTime
    kek: Annotated[str, Meta(max_length=256)]
    wrapped: Annotated[bytes, Meta(max_length=4096)]
    reserved: Messages

    @property
    def context(self) -> bytes:
        """What the KEK binds the key to."""
        return key_context(self.purpose, self.generation, self.id)


Keys = tuple[WrappedKey, ...]
# What differs after every replacement of the file: modification time (ns), inode, size.
Signature = tuple[int, int, int]


class _Content(Struct, frozen=True, kw_only=True):
    version: Literal[1] = 1
    keys: Annotated[Keys, Meta(min_length=1, max_length=KEYS_MAX)]


class KeyringFile:
    """The file at `path`. Keeps nothing in memory; any thread may use it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock_path = path.with_name(f"{path.name}.lock")

    def signature(self) -> Signature:
        """Costs one stat. Raises StateError when the file is gone."""
        try:
            status = os.stat(self.path)  # noqa: PTH116 - half the time of Path.stat, at each seal
        except OSError as error:
            raise StateError(
                f"{self.path}: {error.strerror}; put it back from a backup: what it opens is lost without it"
            ) from error
        return status.st_mtime_ns, status.st_ino, status.st_size

    def read(self) -> Keys:
        """Raises StateError when the file is missing, damaged or open to other users."""
        try:
            keys = msgspec.json.decode(read_private(self.path, FILE_BYTES_MAX), type=_Content).keys
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise StateError(f"{self.path} is damaged ({error}); restore it from a backup") from error
        if not _are_distinct(keys):
            raise StateError(f"{self.path} has one key twice; restore it from a backup")
        return keys

    def change(self, edit: Callable[[Keys], Keys], *, create: bool = False) -> None:
        """Replaces the keys by what `edit` makes of them, in one atomic write; when it raises, nothing has changed.

        create: begin with none where there is no file. Blocks for the disk and for other writers. Raises StateError.
        """
        with self._writing():
            before = () if create and not self.path.exists() else self.read()
            after = edit(before)
            if len(after) > KEYS_MAX:
                raise StateError(f"{self.path} takes at most {KEYS_MAX} keys; drop old generations")
            if not _are_distinct(after):
                raise StateError(f"{self.path} would get one key twice; nothing was changed")
            if after != before:
                write_atomic(self.path, msgspec.json.format(msgspec.json.encode(_Content(keys=after))))

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        fd = open_lock_file(self._lock_path)
        try:
            deadline = time.monotonic() + LOCK_WAIT_SECONDS
            while not try_lock(fd):
                if time.monotonic() > deadline:
                    raise StateError(f"another process keeps writing {self.path}; wait for it or end it, then retry")
                time.sleep(_LOCK_POLL_SECONDS)
            yield
        finally:
            os.close(fd)


def key_context(purpose: str, generation: int, key_id: str) -> bytes:
    """`keyring|purpose|generation|id`: none of the parts can hold a `|`."""
    return f"keyring|{purpose}|{generation}|{key_id}".encode()


def _are_distinct(keys: Keys) -> bool:
    ids = {key.id for key in keys}
    generations = {(key.purpose, key.generation) for key in keys}
    return len(ids) == len(generations) == len(keys)
