"""The API key records on disk: `secrets/api_keys.json`.

The CLI adds keys while the daemon runs. So the daemon looks at the file's identity at each look-up (one stat, about
1 µs) and reads it again when it changed. A file that has become unreadable is reported once and changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import Struct

from appliance.errors import StateError
from appliance.security.api_keys import KeyRecord
from appliance.state_dir import read_private, write_atomic

FILE_BYTES_MAX: Final = 64 * 2**20

_log = logging.getLogger(__name__)

# What differs after every replacement of the file: modification time (ns), inode, size.
_Signature = tuple[int, int, int]


class _File(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    version: Literal[1]
    keys: tuple[KeyRecord, ...]


class KeyStore:
    """A view of the file that follows it; empty until the first `add` where there is none. Belongs to one thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._signature: _Signature | None = None
        self._records: Mapping[str, KeyRecord] = {}

    @classmethod
    def open(cls, path: Path) -> KeyStore:
        """Raises StateError when the file is missing, damaged or open to other users."""
        store = cls(path)
        store._signature = _signature(path)
        store._records = _read(path)
        return store

    def find(self, kid: str) -> KeyRecord | None:
        """The record of a key id, as the file has it now."""
        self._follow()
        return self._records.get(kid)

    def kids_by_principal(self) -> dict[str, tuple[str, ...]]:
        """Everyone who has a key, and the ids of their keys."""
        self._follow()
        kids: dict[str, tuple[str, ...]] = {}
        for record in self._records.values():
            kids[record.principal] = (*kids.get(record.principal, ()), record.kid)
        return kids

    def add(self, record: KeyRecord) -> None:
        """Stores `record` durably. The caller holds StateDir.writing()."""
        records = dict(_read(self._path)) if self._path.exists() else {}
        assert record.kid not in records, "71 random bits do not repeat"
        records[record.kid] = record
        write_atomic(self._path, msgspec.json.encode(_File(version=1, keys=tuple(records.values()))))
        self._signature = _signature(self._path)
        self._records = records

    def _follow(self) -> None:
        signature = _signature(self._path)
        if signature == self._signature:
            return
        self._signature = signature
        try:
            self._records = _read(self._path)
        except StateError as error:
            _log.error("API keys stay as they were: %s", error)


def _signature(path: Path) -> _Signature | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size


def _read(path: Path) -> Mapping[str, KeyRecord]:
    try:
        file = msgspec.json.decode(read_private(path, FILE_BYTES_MAX), type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StateError(f"{path} is damaged ({error}); restore it from a backup") from error
    records = {record.kid: record for record in file.keys}
    if len(records) != len(file.keys):
        raise StateError(f"{path} has one key id twice; restore it from a backup")
    return records
