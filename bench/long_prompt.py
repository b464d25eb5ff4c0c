"""A long prompt arrives while others read their answers: how much do their streams stutter?"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from bench.answer import Answer
from bench.drive import Run, until
from bench.figures import Figures, Spread, figures_of
from bench.server import Server
from bench.workload import Question, distinct, numbered


@dataclass(frozen=True, slots=True)
class LongPrompt:
    """readers: the streams under way. settled: reads of each before the prompt is sent."""

    readers: tuple[Question, ...]
    prompt: Question
    settled: int

    @classmethod
    def of(cls, streams: int = 4, tokens: int = 300, words: int = 5_660, settled: int = 60) -> LongPrompt:
        """With 5,660 words the prompt has about 6,000 tokens."""
        clients = distinct(streams, 1, 32, tokens, salt="readers").clients
        return cls(tuple(client.questions[0] for client in clients), numbered(0, words, 16), settled)

    async def measure(self, server: Server) -> Figures:
        """ttft: the long prompt's. gap: the readers' from its arrival to its first text; gap_before: until then."""
        readers = [await server.connect() for _ in self.readers]
        disturber = await server.connect()
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            reading = [
                group.create_task(reader.ask(question)) for reader, question in zip(readers, self.readers, strict=True)
            ]
            await until(
                lambda: (
                    all(len(reader.pieces) >= self.settled for reader in readers)
                    or all(task.done() for task in reading)
                )
            )
            disturbed = await disturber.ask(self.prompt)
        seconds = time.monotonic() - began
        for client in (*readers, disturber):
            client.close()
        long = disturbed.read()
        answers = [task.result().read() for task in reading]
        figures = figures_of(Run((*answers, long), seconds))
        before, during = _gaps(answers, long)
        return msgspec.structs.replace(
            figures,
            ttft=Spread.of(() if long.error else [long.ttft]),
            gap=Spread.of(during),
            gap_before=Spread.of(before),
        )


def _gaps(readers: Sequence[Answer], long: Answer) -> tuple[list[float], list[float]]:
    """Before: since every reader has its first text. During: all that any part of the waiting falls into."""
    if long.error or any(reader.error for reader in readers):
        return [], []
    started = max(reader.arrivals[0] for reader in readers)
    pairs = [pair for reader in readers for pair in itertools.pairwise(reader.arrivals)]
    before = [right - left for left, right in pairs if started <= left and right <= long.sent]
    during = [right - left for left, right in pairs if right > long.sent and left < long.arrivals[0]]
    return before, during
