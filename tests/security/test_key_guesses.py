"""Guessing keys: it is slowed, it locks nobody out, and it does not fill the audit log."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

import pytest

from appliance.security.api_keys import ApiKey
from tests.security.daemons import add_client, audited, caller, scripted_appliance, status, verified

_log = logging.getLogger(__name__)

GUESSERS = 20
SECONDS = 12.0


@pytest.mark.slow
async def test_guesses(tmp_path: Path) -> None:
    """From the same address as a good client, with a certificate of its own and ever new keys."""
    with scripted_appliance(tmp_path / "a") as appliance:
        await add_client(appliance, "guesser")
        guesses = 0
        waited: list[float] = []
        stop = time.monotonic() + SECONDS

        async def guess() -> None:
            nonlocal guesses
            async with caller(appliance, "guesser", authorization="") as session:
                while time.monotonic() < stop:
                    headers = {"Authorization": f"Bearer {ApiKey.generate().reveal()}"}
                    async with session.get("/v1/models", headers=headers) as answer:
                        assert answer.status == 401
                        assert (await answer.json())["error"]["code"] == "invalid_api_key"
                    guesses += 1

        async def work() -> None:
            async with caller(appliance) as session:
                while time.monotonic() < stop:
                    began = time.monotonic()
                    assert await status(session) == 200
                    waited.append(time.monotonic() - began)
                    await asyncio.sleep(0.02)

        async with asyncio.TaskGroup() as group:
            for _ in range(GUESSERS):
                group.create_task(guess())
            group.create_task(work())
        _log.info(
            "%d guesses in %.0f s; a good client at the same address waited %.3f s at most",
            guesses,
            SECONDS,
            max(waited),
        )
        # Ten at once, then each of the connections waits up to two seconds for its answer.
        assert guesses <= 10 + GUESSERS * (SECONDS / 1.0 + 2)
        # But for moments in which the machine does something else.
        assert sorted(waited)[len(waited) * 9 // 10] < 1.0
        # The guesser itself is not locked out.
        async with caller(appliance, "guesser") as session:
            assert await status(session) == 200
    told = audited(appliance, "connection.refuse")
    assert {record.reason for record in told} == {"invalid_api_key"}
    assert sum(int(record.details["times"]) for record in told) == guesses
    # One at once, one for every window of ten seconds, one at the end.
    assert len(told) <= 4
    assert told[0].actor.principal == "guesser"
    assert all(record.outcome != "deny" for record in audited(appliance, "api.request"))
    assert verified(appliance.state)
