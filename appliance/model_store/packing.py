"""Preparing a model on the connected side: a folder with its files, their hashes, and a signature over those."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.errors import ChangeRefused
from appliance.model_store.copying import Progress
from appliance.model_store.hashes import SIGNATURE, SUMS, sums_text
from appliance.model_store.source import Source
from appliance.model_store.store import copy_files
from appliance.state_dir import sync_folder, temporary_sibling, write_atomic


def pack_model(source: Source, target: Path, key: Ed25519PrivateKey | None, progress: Progress) -> Mapping[str, str]:
    """Makes `target`, which must not exist, as a whole; the hashes by file name.

    Blocks. Raises ChangeRefused or StateError, and what `progress` raises; then nothing is left.
    """
    target = target.absolute()
    if os.path.lexists(target):
        raise ChangeRefused("conflict", f"{target} exists; name a folder that does not, with --out")
    folder = temporary_sibling(target)
    try:
        folder.mkdir(mode=0o755)
        hashes = {file.name: file.sha256 for file in copy_files(source, folder, progress, mode=0o644)}
        text = sums_text(hashes)
        write_atomic(folder / SUMS, text, 0o644)
        if key is not None:
            write_atomic(folder / SIGNATURE, key.sign(text), 0o644)
        folder.rename(target)
        sync_folder(target.parent)
        return hashes
    except OSError as error:
        raise ChangeRefused("conflict", f"{target} cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
