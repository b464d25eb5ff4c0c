"""Follows a source for as long as the dashboard is open, and posts what it says; nothing else reads it.

One task of the app's. Where the source is lost it is tried again, after ever longer waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import Final

from textual.message import Message

from appliance.errors import ApplianceError
from appliance.safe_text import safe_text
from tui.board import TREND_SECONDS
from tui.ingest import safe, safe_update
from tui.messages import Arrived, Gone, Introduced, Recalled
from tui.source import Source

WAITS_SECONDS: Final = (1.0, 2.0, 4.0, 8.0, 15.0)


class Feed:
    """post: puts a message into the app's queue."""

    def __init__(self, source: Source, post: Callable[[Message], object]) -> None:
        self._source = source
        self._post = post
        self._hurry = asyncio.Event()

    def retry_now(self) -> None:
        """Ends the wait for the next try."""
        self._hurry.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        failures = 0
        while True:
            try:
                self._post(Introduced(safe(await self._source.identity())))
                if not failures:
                    self._post(Recalled(tuple(safe(one) for one in await self._source.history(TREND_SECONDS))))
                async with aclosing(self._source.updates()) as updates:
                    async for update in updates:
                        failures = 0
                        self._post(Arrived(safe_update(update)))
                reason = "it ended the stream"
            except ApplianceError as error:
                reason = safe_text(str(error))
            wait = WAITS_SECONDS[min(failures, len(WAITS_SECONDS) - 1)]
            failures += 1
            self._post(Gone(reason, wait))
            self._hurry.clear()
            try:
                async with asyncio.timeout(wait):
                    await self._hurry.wait()
            except TimeoutError:
                continue
