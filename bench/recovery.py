"""How long clients feel a fault: a worker that is killed in the middle of a stream, a client that is revoked in one.

    python -m bench.recovery [--rounds 5] [--model FILE]

The real daemon with the bundled demo model, or FILE, over mutual TLS. After the kill: until the stream has ended with
its error, and until somebody who then asks has the first token, which takes a worker and a load. After the revocation:
from the command until the stream is cut. Nothing is tried again.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp

import appliance
from appliance.types import ModelSpec
from bench.appliance_server import FIRST_CLIENT, ApplianceServer, running_appliance
from bench.server import end_cleanly_on_sigterm

DEMO: Final = Path(appliance.__file__).parent / "demo" / "demo-chat-q8_0.gguf"
# Longer than a fault takes.
ENDLESS: Final[dict[str, Any]] = {
    "model": "m",
    "prompt": "What is mutual TLS?",
    "max_tokens": 1900,
    "ignore_eos": True,
    "stream": True,
}

_REVOKED: Final = "revoked"
_WHAT: Final = (
    "killed worker → its stream has ended with its error",
    "killed worker → first token of the next request",
    "revocation → the client's stream is cut",
)


async def kill(server: ApplianceServer) -> tuple[float, float]:
    """Seconds until the stream has ended with its error, and from the kill until the next first token."""
    async with server.session(FIRST_CLIENT) as session:
        async with _stream(session) as answer:
            killed = time.monotonic()
            server.worker.kill()
            rest = await answer.content.read()
            ended = time.monotonic()
            assert b'"error"' in rest, rest[-200:]
        async with _stream(session):
            return ended - killed, time.monotonic() - killed


async def revoke(server: ApplianceServer, client: str) -> float:
    """Seconds from the command until the client's stream is cut."""
    async with (
        server.session(client) as session,
        server.admin() as admin,
        _stream(session) as answer,
        asyncio.TaskGroup() as tasks,
    ):
        began = time.monotonic()
        revoked = tasks.create_task(admin.post(f"/clients/{client}/revoke", {}))
        try:
            await answer.content.read()
        except aiohttp.ClientError:
            cut = time.monotonic()
        else:
            raise AssertionError("the stream ended well")
    assert revoked.result()["cut"] == 1
    return cut - began


@asynccontextmanager
async def _stream(session: aiohttp.ClientSession) -> AsyncIterator[aiohttp.ClientResponse]:
    """One whose first token has come."""
    async with session.post("/v1/completions", json=ENDLESS) as answer:
        assert answer.status == 200, await answer.text()
        await answer.content.readline()
        yield answer


async def _round(server: ApplianceServer) -> tuple[float, float, float]:
    cut = await revoke(server, _REVOKED)
    return *await kill(server), cut


def main() -> None:
    """Runs the command line."""
    end_cleanly_on_sigterm()
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", type=Path, default=DEMO, metavar="FILE")
    options = parser.parse_args()
    spec = ModelSpec(id="m", path=str(options.model.resolve()), preload=True)
    rounds = []
    for _ in range(options.rounds):
        # A new daemon each: where a worker crashes again and again, the next one is waited for on purpose.
        with running_appliance(spec, (_REVOKED,)) as server:
            rounds.append(asyncio.run(_round(server)))
    for what, seconds in zip(_WHAT, zip(*rounds, strict=True), strict=True):
        print(f"{what}: median {statistics.median(seconds) * 1000:.0f} ms, longest {max(seconds) * 1000:.0f}")


if __name__ == "__main__":
    main()
