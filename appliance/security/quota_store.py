"""Tokens used by day and month on disk: `<state>/store/quotas.json`.

Written by a timer of the caller's, so a process that is killed loses what was counted since the last turn, at most one
interval. A file that cannot be read does not stop the service: it is kept aside, and the sums start at zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from appliance.access_config import PRINCIPAL_NAME
from appliance.errors import StateError
from appliance.security.period_sums import TokenSums
from appliance.state_dir import read_private, write_atomic

FILE_BYTES_MAX: Final = 64 * 2**20

_Name = Annotated[str, Meta(pattern=rf"^{PRINCIPAL_NAME}\Z")]


class _File(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    version: Literal[1]
    principals: dict[_Name, TokenSums]


@dataclass(frozen=True, slots=True)
class LoadedQuotas:
    """What the file says. damage: a sentence for log and audit where it could not be read and all starts at zero."""

    sums: Mapping[str, TokenSums]
    damage: str | None = None


class QuotaStore:
    """The file. `load` once at the start, then `save` from one thread at a time; both block for a disk write."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written = b""

    def load(self, now: datetime) -> LoadedQuotas:
        """Reads the file; none is nothing used. A damaged one is renamed after `now` and reported, never raised."""
        if not self._path.is_symlink() and not self._path.exists():
            return LoadedQuotas({})
        try:
            data = read_private(self._path, FILE_BYTES_MAX)
            sums = msgspec.json.decode(data, type=_File).principals
        except (StateError, OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return LoadedQuotas({}, self._set_aside(error, now))
        self._written = data
        return LoadedQuotas(sums)

    def save(self, sums: Mapping[str, TokenSums]) -> bool:
        """Writes the sums if they differ from what is there, and says whether they did. Raises StateError."""
        data = msgspec.json.encode(_File(version=1, principals=dict(sorted(sums.items()))))
        if data == self._written:
            return False
        write_atomic(self._path, data)
        self._written = data
        return True

    def _set_aside(self, error: Exception, now: datetime) -> str:
        aside = self._path.with_name(f"{self._path.name}.damaged-{now:%Y%m%dT%H%M%S.%fZ}")
        try:
            self._path.rename(aside)
            kept = f"it was kept as {aside.name}"
        except OSError as failure:
            kept = f"it could not be kept aside ({failure.strerror}) and will be overwritten"
        why = str(error) if isinstance(error, StateError) else f"{self._path} is damaged ({error})"
        return f"{why}; {kept}. Tokens used today and this month count from zero"
