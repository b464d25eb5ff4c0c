"""Clients with kept connections that ask on and on, whatever happens to the appliance meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Final

import aiohttp
import openai

from appliance.api.parting import IDLE_SECONDS
from tests.e2e.appliance_process import Appliance
from tests.security.daemons import text_of
from tests.waiting import until

# Before what happens, and after it; longer where a busy machine needs it for so many answers of each kind.
LOAD_SECONDS: Final = 1.5
ANSWERS_MIN: Final = 40
STREAMS_MIN: Final = 4
# How long each client thinks between two requests: one as fast as it goes, and some that are idle most of the time.
PAUSES: Final = (0.0, 0.02, 0.1, 0.4)
STREAMS: Final = 3
SHORT: Final = {"model": "m", "prompt": "say:x"}
# Lasts for half a second, so that some are under way at any moment.
LONG: Final = {"model": "m", "prompt": " ".join(["say:x sleep:0.02"] * 25), "stream": True}

Ask = Callable[[], Awaitable[None]]
# How a client finds a kept connection that was closed as its request was on its way.
CLOSED: Final = (aiohttp.ClientConnectionError, openai.APIConnectionError)
# A client with a connection of its own: in a pool of several some are silent for as long as they are not needed.
Client = Callable[[], AbstractAsyncContextManager[Ask]]


@dataclass
class Load:
    """What became of it. Nobody tries a POST again.

    answered: by kind of client and by `when`, which is the test's. connections: that aiohttp's clients have made.
    """

    answered: Counter[tuple[str, str]] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    connections: int = 0
    when: str = "before"
    ending: bool = False

    async def repeat(self, kind: str, client: Client, pause: float) -> None:
        async with client() as ask:
            began = time.monotonic()
            while not self.ending:
                before, began = began, time.monotonic()
                try:
                    await ask()
                    self.answered[kind, self.when] += 1
                except (aiohttp.ClientError, openai.OpenAIError, AssertionError) as error:
                    # Where this process was held up for so long, the request may have met the service's farewell.
                    if began - before < IDLE_SECONDS or not isinstance(error, CLOSED):
                        self.failed.append(f"{kind}: {error!r} after {time.monotonic() - began:.2f} s")
                await asyncio.sleep(pause)

    async def _last(self, kinds: Iterable[str]) -> None:
        await asyncio.sleep(LOAD_SECONDS)
        for kind in kinds:
            least = STREAMS_MIN if kind == "streams" else ANSWERS_MIN
            await until(lambda kind=kind, least=least: self.failed or self.answered[kind, self.when] >= least)  # type: ignore[misc]

    @contextlib.asynccontextmanager
    async def asking(self, kinds: dict[str, Client]) -> AsyncIterator[None]:
        """A client of each kind for each pause, from some time before the block until some time after it."""
        async with asyncio.TaskGroup() as clients:
            for kind, client in kinds.items():
                for pause in PAUSES if kind != "streams" else STREAMS * (0.0,):
                    clients.create_task(self.repeat(kind, client, pause))
            try:
                await self._last(kinds)
                yield
                await self._last(kinds)
            finally:
                self.ending = True


@dataclass(frozen=True)
class Target:
    """Where clients of aiohttp ask, which tries nothing but GET again. load: counts their connections."""

    url: str
    context: ssl.SSLContext
    key: str
    load: Load

    @classmethod
    def of(cls, appliance: Appliance, load: Load) -> Target:
        return cls(appliance.url, appliance.context(), appliance.key(), load)

    @contextlib.asynccontextmanager
    async def post(self) -> AsyncIterator[Ask]:
        """A client of short answers."""

        async def ask() -> None:
            async with session.post("/v1/completions", json=SHORT) as answer:
                assert answer.status == 200, await answer.text()
                assert (await answer.json())["choices"][0]["text"] == "x"

        async with self._session() as session:
            yield ask

    @contextlib.asynccontextmanager
    async def stream(self) -> AsyncIterator[Ask]:
        """A client of long ones."""

        async def ask() -> None:
            async with session.post("/v1/completions", json=LONG) as answer:
                assert answer.status == 200, await answer.text()
                assert text_of(await answer.text()) == "x" * 25

        async with self._session() as session:
            yield ask

    def _session(self) -> aiohttp.ClientSession:
        async def connected(*_: object) -> None:
            self.load.connections += 1

        trace = aiohttp.TraceConfig()
        trace.on_connection_create_end.append(connected)
        return aiohttp.ClientSession(
            self.url,
            headers={"Authorization": f"Bearer {self.key}"},
            connector=aiohttp.TCPConnector(ssl=self.context),
            trace_configs=[trace],
        )
