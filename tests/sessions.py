"""Sessions of aiohttp whose answers need no context manager of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace

import aiohttp


@asynccontextmanager
async def owning_session(url: str, **options: object) -> AsyncIterator[aiohttp.ClientSession]:
    """A session that releases every answer when it ends.

    A test that looks at a status alone may drop an answer before its body is there. Nobody but the garbage collector
    would find it, in whatever test runs by then, and aiohttp would say there that a connection was not closed.
    """
    answers: list[aiohttp.ClientResponse] = []

    async def keep(
        session: aiohttp.ClientSession, context: SimpleNamespace, ended: aiohttp.TraceRequestEndParams
    ) -> None:
        answers[:] = [*(one for one in answers if not one.closed), ended.response]

    trace = aiohttp.TraceConfig()
    trace.on_request_end.append(keep)
    async with aiohttp.ClientSession(url, trace_configs=[trace], **options) as session:  # type: ignore[arg-type]
        try:
            yield session
        finally:
            for answer in answers:
                answer.release()
