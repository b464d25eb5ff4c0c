"""Which files a model is, and whether they are still those that were loaded, without reading them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct

from appliance.errors import GgufError
from appliance.gguf.split import part_names, split_name


class FileIdentity(Struct, frozen=True):
    """bytes: of all files of the model. files: of each the time of its last change in ns, and its place on the disk."""

    bytes: int
    files: tuple[tuple[int, int, int], ...]

    @classmethod
    def of(cls, path: str) -> FileIdentity | None:
        """None where one of the files is not there, or cannot be looked at."""
        try:
            return cls.of_status(file.stat() for file in files_of(Path(path)))
        except OSError:
            return None

    @classmethod
    def of_status(cls, statuses: Iterable[os.stat_result]) -> FileIdentity:
        """Of the model's files, in order."""
        found = list(statuses)
        return cls(sum(one.st_size for one in found), tuple((one.st_mtime_ns, one.st_dev, one.st_ino) for one in found))


def files_of(path: Path) -> list[Path]:
    """All parts, in order, where the name says that it is one of several. Pure."""
    try:
        split = split_name(path.name)
    except GgufError:
        split = None
    return [path] if split is None else [path.with_name(name) for name in part_names(split)]
