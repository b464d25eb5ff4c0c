"""Where a model's answers come from: found out beside its load, and completed while it serves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from appliance.errors import StateError
from appliance.models.content_digest import content_digest
from appliance.models.file_identity import FileIdentity
from appliance.models.version import ModelVersion

# A load reads a thousand times as much in that time; a disk that is slower than this says nothing of the model.
DIGEST_SECONDS_MAX: Final = 30.0

_log = logging.getLogger(__name__)


async def _forget(fingerprint: str, version: ModelVersion) -> None:
    return None


async def _unknown(path: str) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Provenance:
    """keep: remembers what a fingerprint stands for. sha256_of: of a model's file, hex; it may take minutes, and is
    None where the file cannot be read. Neither raises.
    """

    keep: Callable[[str, ModelVersion], Awaitable[None]] = _forget
    sha256_of: Callable[[str], Awaitable[str | None]] = _unknown


NO_PROVENANCE: Final = Provenance()


async def content_of(path: str, file: FileIdentity | None) -> str | None:
    """The content digest of the file that is about to be loaded; None where that is not the one that is there now."""
    try:
        async with asyncio.timeout(DIGEST_SECONDS_MAX):
            found, content = await asyncio.to_thread(content_digest, path)
    except (OSError, StateError) as error:
        # TimeoutError is an OSError.
        _log.warning("%s: which version answers cannot be said: %s", path, error or "the disk is too slow")
        return None
    if found != file:
        _log.warning("%s: which version answers cannot be said: the file changed while it was loaded", path)
        return None
    return content
