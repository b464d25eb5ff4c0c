"""A client's files as a folder, which appears as a whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from appliance.errors import StateError
from appliance.state_dir import sync_folder, temporary_sibling, write_atomic


def write_bundle(folder: Path, files: Mapping[str, bytes]) -> None:
    """Makes `folder` (0700) with `files` (0600); one that is there keeps its other files. Raises StateError."""
    temporary = temporary_sibling(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists():
            for name, data in files.items():
                write_atomic(folder / name, data)
            return
        temporary.mkdir(mode=0o700)
        for name, data in files.items():
            write_atomic(temporary / name, data)
        temporary.rename(folder)
        sync_folder(folder.parent)
    except OSError as error:
        raise StateError(f"{folder}: the files cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
