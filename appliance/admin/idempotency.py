"""Repeating a request does not repeat what it did.

A client that lost the answer sends the request again with the same Idempotency-Key and gets the answer it missed. Kept
in memory, because an answer may hold a new API key, and no longer than a client asks for it; after that, as after a
restart, If-Match is what keeps a repetition from acting.

What is done runs in a task of its own: whoever waits for it may go away, and it is done as a whole all the same.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from appliance.admin_client import TIMEOUT_SECONDS
from appliance.errors import ChangeRefused
from appliance.tasks import TaskOwner

ENTRIES_MAX: Final = 1000
KEY_CHARS_MAX: Final = 128
# A client waits so long for an answer, and once more for a repetition.
KEPT_SECONDS: Final = 2 * TIMEOUT_SECONDS
_CLOSE_SECONDS_MAX: Final = 10.0


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """status, body (JSON) and generation of an answer."""

    status: int
    body: bytes
    generation: int


@dataclass(slots=True)
class _Entry:
    """forgetting: what will forget the answer, once there is one."""

    digest: str
    answer: asyncio.Future[KeptAnswer]
    forgetting: asyncio.TimerHandle | None = None


class IdempotentAnswers:
    """Belongs to the event loop. Keys are per administrator."""

    def __init__(self) -> None:
        self._entries: OrderedDict[tuple[str, str], _Entry] = OrderedDict()
        self._tasks = TaskOwner("admin")

    async def once(
        self, administrator: str, key: str, digest: str, work: Callable[[], Awaitable[KeptAnswer]]
    ) -> KeptAnswer:
        """What `work` answers, or answered when this key came first; a repetition waits for one under way.

        An answer is forgotten KEPT_SECONDS after it was given.
        Cancelling a caller cancels its waiting and not the work. Work that fails is forgotten, so that it can be tried
        again. Raises ChangeRefused where the key was used for another request (`digest`).
        """
        if len(key) > KEY_CHARS_MAX:
            raise ChangeRefused("invalid", f"an Idempotency-Key has at most {KEY_CHARS_MAX} characters")
        name = (administrator, key)
        entry = self._entries.get(name)
        if entry is None:
            self._make_room()
            entry = _Entry(digest, asyncio.get_running_loop().create_future())
            self._entries[name] = entry
            self._tasks.spawn(self._do(name, entry, work), name="act")
        elif entry.digest != digest:
            raise ChangeRefused("conflict", "this Idempotency-Key was used for another request; take a new one")
        return await asyncio.shield(entry.answer)

    async def close(self) -> None:
        """Waits a while for what is under way, then cancels it."""
        running = [entry.answer for entry in self._entries.values() if not entry.answer.done()]
        if running:
            await asyncio.wait(running, timeout=_CLOSE_SECONDS_MAX)
        await self._tasks.close()

    async def _do(self, name: tuple[str, str], entry: _Entry, work: Callable[[], Awaitable[KeptAnswer]]) -> None:
        try:
            entry.answer.set_result(await work())
            entry.forgetting = asyncio.get_running_loop().call_later(KEPT_SECONDS, self._entries.pop, name)
        except Exception as error:
            del self._entries[name]
            entry.answer.set_exception(error)
            # There may be nobody left to hear it.
            entry.answer.exception()
        except asyncio.CancelledError:
            del self._entries[name]
            entry.answer.cancel()
            raise

    def _make_room(self) -> None:
        """Forgets the oldest answers, never work under way: a repetition of that would do it twice."""
        if len(self._entries) < ENTRIES_MAX:
            return
        for name, entry in self._entries.items():
            if entry.forgetting is not None:
                entry.forgetting.cancel()
                del self._entries[name]
                return
        raise ChangeRefused("conflict", f"{ENTRIES_MAX} acts are under way; wait until some are done")
