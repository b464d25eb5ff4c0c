"""One principal sends far more than fits; how long does another one wait?

The other one's requests are sent at fixed shares of the flood's progress, whatever became of those before, so that
every variant meets the same load at the same moments.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Final

import msgspec

from bench.answer import Recording
from bench.appliance_server import FIRST_CLIENT, ApplianceServer
from bench.drive import Run, drive, until
from bench.figures import Figures, figures_of
from bench.lean_client import ApplianceClient
from bench.workload import Client, Question, Workload, distinct

OTHER_CLIENT: Final = "other"
_FLOOD_USER: Final = "flood"


@dataclass(frozen=True, slots=True)
class Flood:
    """flood: all of it is sent at once. victim: the requests that are measured; calm: such for the idle server."""

    flood: tuple[Question, ...]
    victim: tuple[Question, ...]
    calm: tuple[Question, ...]

    @classmethod
    def of(cls, requests: int = 32, tokens: int = 200, victims: int = 10, words: int = 165) -> Flood:
        """Texts that share no beginning."""
        (flood,) = distinct(1, requests, words, tokens, salt="flood").clients
        (victim,) = distinct(1, victims, words, 16, salt="victim").clients
        (calm,) = distinct(1, victims, words, 16, salt="calm").clients
        return cls(flood.questions, victim.questions, calm.questions)

    async def alone(self, server: ApplianceServer) -> Figures:
        """The victim's requests on an idle server, one at a time."""
        return figures_of(await drive(server, Workload((Client(self.calm),))))

    async def from_another(self, server: ApplianceServer) -> Figures:
        """The victim is another principal. Latencies are the victim's, the rest is of all requests."""
        return await self._run(server, OTHER_CLIENT, "")

    async def from_the_same(self, server: ApplianceServer) -> Figures:
        """The victim has the flooder's key and `user`: one queue for both, in order of arrival."""
        return await self._run(server, FIRST_CLIENT, _FLOOD_USER)

    async def _run(self, server: ApplianceServer, client: str, user: str) -> Figures:
        flooders = [await server.connect(user=_FLOOD_USER) for _ in self.flood]
        progress = _Progress(flooders, self.flood)

        async def after(share: float, question: Question) -> Recording:
            """Connects only then: the server ends connections that idle as long as a slow machine's flood takes."""
            await until(lambda: progress.share >= share)
            connection = await server.connect(client, user)
            recording = await connection.ask(question)
            connection.close()
            return recording

        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            flood = [group.create_task(progress.ask(index)) for index in range(len(flooders))]
            waiting = [
                group.create_task(after((index + 0.5) / len(self.victim), question))
                for index, question in enumerate(self.victim)
            ]
        seconds = time.monotonic() - began
        for connection in flooders:
            connection.close()
        answers = tuple(task.result().read() for task in waiting)
        all_of_it = figures_of(Run((*answers, *(task.result().read() for task in flood)), seconds))
        victim = figures_of(Run(answers, seconds))
        return msgspec.structs.replace(all_of_it, ttft=victim.ttft, gap=victim.gap)


class _Progress:
    """How far the flood has come."""

    def __init__(self, connections: list[ApplianceClient], questions: tuple[Question, ...]) -> None:
        self._pairs = list(zip(connections, questions, strict=True))
        self._done: set[int] = set()

    async def ask(self, index: int) -> Recording:
        """Sends one request of the flood."""
        connection, question = self._pairs[index]
        try:
            return await connection.ask(question)
        finally:
            self._done.add(index)

    @property
    def share(self) -> float:
        """0 to 1; a read counts as a token, which errs by the few that came together."""
        came = sum(
            question.tokens if index in self._done else min(len(connection.pieces), question.tokens)
            for index, (connection, question) in enumerate(self._pairs)
        )
        return came / sum(question.tokens for _, question in self._pairs)
