"""`python -m tests.security.everyday_use FOLDER`: starts the daemon with the demo model, uses it, and stops it.

What an ordinary day brings: chats, a refused request, the commands of an administrator, a reload. Run by a test that
watches it from outside, because a network of its own takes in a process and its children.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any, Final

from tests.e2e.appliance_process import Appliance, run_command, running_appliance

COMMANDS: Final = (
    "status",
    "ps",
    "whoami",
    "doctor",
    "top --once",
    "clients list",
    "keys add demo",
    "keys list",
    "certs list",
    "allow list",
    "allow test 192.0.2.7",
    "models list",
    "requests",
    "usage",
    "logs",
    "alerts",
    "audit verify",
    "reload",
)
# Beside 0: something deserves attention, as it does on a host without hardening; records are not sealed yet.
REMARKS: Final = {"status": 1, "doctor": 1, "alerts": 1, "audit verify": 2}


async def ask(appliance: Appliance) -> None:
    """A chat at once and as a stream, a list, and what the demo model cannot do."""
    chat: dict[str, Any] = {
        "model": "demo",
        "messages": [{"role": "user", "content": "What is mutual TLS?"}],
        "max_tokens": 16,
    }
    async with appliance.session() as session:
        for stream in (False, True):
            async with session.post("/v1/chat/completions", json={**chat, "stream": stream}) as answer:
                assert answer.status == 200
                assert await answer.read()
        async with session.get("/v1/models") as answer:
            assert answer.status == 200
        async with session.post("/v1/embeddings", json={"model": "demo", "input": "text"}) as answer:
            assert answer.status == 400


def administer(appliance: Appliance) -> None:
    where = ("--state-dir", appliance.state, "--config", appliance.folder / "appliance.yaml")
    for command in COMMANDS:
        done = run_command(*command.split(), *where)
        assert done.returncode in (0, REMARKS.get(command, 0)), (command, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr, (command, done.stderr)


def main(folder: Path) -> None:
    with running_appliance(folder, "--demo") as appliance:
        asyncio.run(ask(appliance))
        administer(appliance)
        asyncio.run(ask(appliance))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
