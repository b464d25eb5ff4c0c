"""Runs a workload against a server that is up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bench.answer import Answer, Recording
from bench.lean_client import LeanClient
from bench.server import Server
from bench.workload import Client, Workload

_POLL_SECONDS: Final = 0.01


@dataclass(frozen=True, slots=True)
class Run:
    """All answers of one row by one contestant. seconds: from the first request to the end of the last answer."""

    answers: tuple[Answer, ...]
    seconds: float


async def drive(server: Server, workload: Workload) -> Run:
    """Connects every client, starts the clock and lets them all ask."""
    clients = [await server.connect() for _ in workload.clients]
    began = time.monotonic()
    asked = await asyncio.gather(*(_ask(*pair) for pair in zip(clients, workload.clients, strict=True)))
    seconds = time.monotonic() - began
    for client in clients:
        client.close()
    return Run(tuple(recording.read() for recordings in asked for recording in recordings), seconds)


async def until(condition: Callable[[], bool]) -> None:
    """Waits for something that clients' recorded pieces show. Polls: an event a read would burden what is measured."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(_POLL_SECONDS)


async def _ask(connection: LeanClient, client: Client) -> list[Recording]:
    """One client's questions in order; a chat's prompt begins with all that was said before."""
    recordings: list[Recording] = []
    said = ""
    for question in client.questions:
        recordings.append(await connection.ask(question, said + question.prompt))
        if client.chat:
            said += f"{question.prompt}{recordings[-1].read().text}<|im_end|>\n"
    return recordings
