"""Where responses are kept, and found again by their owner."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

from appliance.access_config import Responses
from appliance.keyring.cipher import Cipher
from appliance.responses.files import BLOCK_BYTES, kept_in, locked, made_at, name_of, owner_of
from appliance.responses.retention import has_expired, plan
from appliance.state_dir import replacing

T = TypeVar("T")
OFF: Final = Responses(enabled=False)

_log = logging.getLogger(__name__)


class ResponseStore:
    """Belongs to the event loop; files are the business of one thread of its own, which does one thing at a time.

    has_room: whether the disk has room for what nobody must have. A folder is made with the first response.
    """

    def __init__(
        self,
        folder: Path,
        cipher: Cipher,
        now: Callable[[], datetime],
        *,
        settings: Responses = OFF,
        has_room: Callable[[], bool] = lambda: True,
    ) -> None:
        self._folder = folder
        self._cipher = cipher
        self._now = now
        self._has_room = has_room
        self._settings = settings
        # Of the files, about; None until they have been counted. The thread's.
        self._bytes: int | None = None
        self._thread = ThreadPoolExecutor(1, "responses")

    @property
    def settings(self) -> Responses:
        """As they count now."""
        return self._settings

    def configure(self, settings: Responses) -> None:
        """From now on. What is kept stays until it has expired, also once nothing more is kept."""
        self._settings = settings

    @property
    def has_room(self) -> bool:
        """Whether the disk takes another response."""
        return self._has_room()

    async def put(self, principal: str, asked: str, content: bytes) -> None:
        """Keeps a response under its new id: whole and durable, or not at all. Raises OSError, StateError."""
        await self._do(lambda: self._put(name_of(owner_of(principal), asked), content))

    async def get(self, principal: str, asked: str) -> bytes | None:
        """What was put; None where this principal has no such response, or no more. Raises StateError where it is
        damaged, OSError where it cannot be read.
        """
        name = self._name(principal, asked)
        return None if name is None else await self._do(lambda: self._get(name))

    async def delete(self, principal: str, asked: str) -> bool:
        """Removes a response for good; False where there is none. Raises OSError."""
        name = self._name(principal, asked)
        return name is not None and await self._do(lambda: self._delete(name))

    def prune(self) -> None:
        """Removes what has expired, and what crashes left. Blocks; any thread but the store's. Never raises."""
        try:
            self._thread.submit(self._prune).result()
        except OSError as error:
            _log.error("kept responses in %s cannot be removed: %s", self._folder, error.strerror)

    def close(self) -> None:
        """Ends what is under way. Nothing is kept or found afterwards."""
        self._thread.shutdown()

    def _name(self, principal: str, asked: str) -> str | None:
        made = made_at(asked)
        if made is None or has_expired(made, self._now().timestamp(), self._settings):
            return None
        return name_of(owner_of(principal), asked)

    async def _do(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    # ── the thread's ──────────────────────────────────────────────────────────────────────────────────────────────

    def _put(self, name: str, content: bytes) -> None:
        size = max(len(content), BLOCK_BYTES)
        if self._bytes is None or self._bytes + size > self._settings.disk_bytes_max:
            self._prune(size)
        path = self._folder / name
        # Sealed under the lock too: a data key is dropped once no file needs it that the lock's next holder can see.
        with locked(self._folder):
            path.parent.mkdir(mode=0o700, exist_ok=True)
            with replacing(path) as file:
                file.write(self._cipher.seal(name, content))
        self._bytes = (self._bytes or 0) + size

    def _get(self, name: str) -> bytes | None:
        try:
            sealed = (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None
        return self._cipher.unseal(name, sealed)

    def _delete(self, name: str) -> bool:
        if not self._folder.exists():
            return False
        with locked(self._folder):
            try:
                (self._folder / name).unlink()
            except FileNotFoundError:
                return False
        return True

    def _prune(self, need: int = 0) -> None:
        if not self._folder.exists():
            self._bytes = 0
            return
        with locked(self._folder):
            kept = kept_in(self._folder)
            going = plan(kept, self._now().timestamp(), self._settings, need)
            for each in going:
                (self._folder / each.name).unlink(missing_ok=True)
            sweep(self._folder)
        self._bytes = sum(each.size for each in kept) - sum(each.size for each in going)
        if going:
            _log.info("%d kept responses were removed", len(going))


def sweep(folder: Path) -> None:
    """Removes what writing that was cut short left, and folders of owners who keep nothing. Under the lock."""
    for left in folder.glob("*/.*.tmp"):
        left.unlink(missing_ok=True)
    for owner in folder.iterdir():
        # One with something in it stays.
        with suppress(OSError):
            if owner.is_dir():
                owner.rmdir()
