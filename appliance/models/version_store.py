"""What each fingerprint stands for: `<state>/store/versions.json`.

A record of the request log names a fingerprint alone: written out, the same facts would double every line of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from appliance.errors import StateError
from appliance.models.version import ModelVersion
from appliance.state_dir import read_private, write_atomic

FILE: Final = "versions.json"
FILE_BYTES_MAX: Final = 4 * 2**20
VERSIONS_MAX: Final = 2048

_log = logging.getLogger(__name__)


class VersionStore:
    """Belongs to the event loop; the disk is written in a thread."""

    def __init__(self, path: Path) -> None:
        """Reads the file, and waits for the disk: for the start."""
        self._path = path
        self._writing = asyncio.Lock()
        self._versions: dict[str, ModelVersion] = {}
        try:
            self._versions = dict(read_versions(path))
        except StateError as error:
            _log.warning("%s; what older fingerprints stand for is lost", error)

    async def keep(self, fingerprint: str, version: ModelVersion) -> None:
        """Remembers it beyond the end of the process, in the place of the oldest. A failure is logged."""
        async with self._writing:
            if fingerprint in self._versions:
                return
            versions = {**self._versions, fingerprint: version}
            while len(versions) > VERSIONS_MAX:
                del versions[next(iter(versions))]
            try:
                await asyncio.to_thread(write_atomic, self._path, msgspec.json.encode(versions))
            except StateError as error:
                _log.warning("%s; what %s stands for is not kept", error, fingerprint)
            else:
                self._versions = versions


def read_versions(path: Path) -> Mapping[str, ModelVersion]:
    """By fingerprint, oldest first; empty where none was kept. Blocks. Raises StateError."""
    if not path.exists():
        return {}
    try:
        return msgspec.json.decode(read_private(path, FILE_BYTES_MAX), type=dict[str, ModelVersion])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise StateError(f"{path} is damaged ({error})") from error
