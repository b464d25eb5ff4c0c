"""The SHA-256 of whatever model is served: from its manifest, from memory, or read once, slowly.

`<state>/store/file_hashes.json` remembers what was read, with what each file looked like then: a file is read again
only where it was touched.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import logging
import os
import stat
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from appliance.errors import ApplianceError, GgufError, StateError
from appliance.gguf.split import part_names, split_name
from appliance.model_store.copying import SourceError, hash_file
from appliance.model_store.hashes import sums_text
from appliance.model_store.manifest import Identity
from appliance.model_store.pace import Pace
from appliance.model_store.store import ModelStore
from appliance.state_dir import read_private, write_atomic

FILE_BYTES_MAX: Final = 4 * 2**20
FILES_MAX: Final = 4096

_log = logging.getLogger(__name__)


class _Hashed(Struct, frozen=True, forbid_unknown_fields=True):
    """identity: when the hash was taken."""

    identity: Identity
    sha256: str


class FileHashes:
    """Belongs to the event loop; needs `close`. One file is read at a time, in a thread.

    mib_per_second: how fast, as it counts now.
    """

    def __init__(self, store: ModelStore, path: Path, mib_per_second: Callable[[], float]) -> None:
        """Reads what is remembered, and waits for the disk: for the start."""
        self._store = store
        self._path = path
        self._mib_per_second = mib_per_second
        self._thread = ThreadPoolExecutor(1, "file-hashes")
        self._turn = asyncio.Lock()
        # By path, oldest first. From here on the thread's.
        self._known: dict[str, _Hashed] = {}
        if path.exists():
            try:
                self._known = msgspec.json.decode(read_private(path, FILE_BYTES_MAX), type=dict[str, _Hashed])
            except (StateError, ValueError, RecursionError) as error:
                _log.warning("%s cannot be read (%s); models are hashed anew", path, error)

    async def sha256_of(self, path: str) -> str | None:
        """Of a model's file, hex; of one in several files, of their list as `sha256sum` writes it.

        None, and a line in the log, where one cannot be read, or is written meanwhile. Cancelling it ends the reading.
        """
        stop = threading.Event()
        try:
            async with self._turn:
                return await asyncio.get_running_loop().run_in_executor(
                    self._thread, functools.partial(self._hash_all, Path(path), stop)
                )
        except (OSError, ApplianceError, SourceError) as error:
            _log.warning("%s has no hash in the evidence of its answers: %s", path, error)
            return None
        finally:
            stop.set()

    def close(self) -> None:
        """Waits for a reading that was cancelled to notice."""
        self._thread.shutdown()

    # ── in the thread ─────────────────────────────────────────────────────────────────────────────────────────────

    def _hash_all(self, path: Path, stop: threading.Event) -> str:
        hashes = {file.name: self._hash(file.resolve(), stop) for file in _files_of(path)}
        if len(hashes) == 1:
            return hashes[path.name]
        return hashlib.sha256(sums_text(hashes)).hexdigest()

    def _hash(self, path: Path, stop: threading.Event) -> str:
        identity = Identity.of(path.stat())
        for known in (self._imported(path), self._known.get(str(path))):
            if known is not None and known.identity == identity:
                return known.sha256

        def check(count: int) -> None:
            if stop.is_set():
                raise SourceError("is not read to its end")

        # A FIFO would not be opened before somebody writes to it.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise SourceError("is no regular file")
            check(0)
            sha256 = hash_file(fd, Pace(self._mib_per_second() * 2**20, check))
        finally:
            os.close(fd)
        self._remember(path, _Hashed(Identity.of(status), sha256))
        return sha256

    def _imported(self, path: Path) -> _Hashed | None:
        """What the store's manifest says of this file, where it is one of the store's."""
        if path.parent.parent != self._store.folder.resolve():
            return None
        try:
            manifest = self._store.manifest(path.parent.name)
        except ApplianceError:
            return None
        found = (_Hashed(file.identity, file.sha256) for file in manifest.files if file.name == path.name)
        return next(found, None)

    def _remember(self, path: Path, file: _Hashed) -> None:
        self._known.pop(str(path), None)
        self._known[str(path)] = file
        while len(self._known) > FILES_MAX:
            del self._known[next(iter(self._known))]
        try:
            write_atomic(self._path, msgspec.json.encode(self._known))
        except StateError as error:
            _log.warning("%s; the model is hashed again at the next start", error)


def _files_of(path: Path) -> list[Path]:
    try:
        split = split_name(path.name)
    except GgufError:
        split = None
    return [path] if split is None else [path.with_name(name) for name in part_names(split)]
