"""The files of the audit folder.

00000001.log        a segment that is open, or closed and not encrypted yet: one record a line
00000001.log.enc    the same, compressed and encrypted (packing.py)
00000001.seal       its seal (seals.py), kept for ever
00000001.torn       ends of lines that a crash left unfinished
epoch.key           the MAC key of now, encrypted (epoch_state.py)
verification.key    for the auditor, until it is taken away (keys.py)
seal-keys.json      whose seals count (seal_keys.py)
ballast             room for the last words on a full disk (log_file.py)
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

EPOCH_KEY: Final = "epoch.key"
VERIFICATION_KEY: Final = "verification.key"
BALLAST: Final = "ballast"
_NAME: Final = re.compile(r"([0-9]{8})\.(log|log\.enc|seal|torn|torn\.new)")


@dataclass(frozen=True, slots=True)
class SegmentFiles:
    """Where one segment's files are, or would be."""

    folder: Path
    number: int

    @property
    def plain(self) -> Path:
        """Its records."""
        return self.folder / f"{self.number:08}.log"

    @property
    def packed(self) -> Path:
        """Its records, encrypted."""
        return self.folder / f"{self.number:08}.log.enc"

    @property
    def seal(self) -> Path:
        """Its seal."""
        return self.folder / f"{self.number:08}.seal"

    @property
    def torn(self) -> Path:
        """What crashes left of last lines."""
        return self.folder / f"{self.number:08}.torn"

    @property
    def torn_unrecorded(self) -> Path:
        """The newest of it, until its record is durable."""
        return self.folder / f"{self.number:08}.torn.new"


@dataclass(frozen=True, slots=True)
class Listing:
    """Which segments of a folder have which files."""

    folder: Path
    plain: frozenset[int]
    packed: frozenset[int]
    seals: frozenset[int]
    torn: frozenset[int]
    torn_unrecorded: frozenset[int]

    @classmethod
    def of(cls, folder: Path) -> Listing:
        """Reads the folder's names. Raises OSError."""
        kinds = ("log", "log.enc", "seal", "torn", "torn.new")
        found: dict[str, set[int]] = {kind: set() for kind in kinds}
        for path in folder.iterdir():
            if (match := _NAME.fullmatch(path.name)) is not None:
                found[match[2]].add(int(match[1]))
        return cls(folder, *(frozenset(found[kind]) for kind in kinds))

    @property
    def newest(self) -> int:
        """The highest number in use; 0 where there is none."""
        return max(self.plain | self.packed | self.seals, default=0)

    def files(self, number: int) -> SegmentFiles:
        """The files of segment `number`."""
        return SegmentFiles(self.folder, number)

    def all_files(self) -> Iterator[SegmentFiles]:
        """Of every segment that has records here, oldest first."""
        for number in sorted(self.plain | self.packed):
            yield SegmentFiles(self.folder, number)
