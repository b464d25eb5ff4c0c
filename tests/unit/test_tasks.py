"""Tasks end with their owner and do not fail silently."""

from __future__ import annotations

import asyncio

import pytest

from appliance.tasks import TaskOwner


async def test_closing_cancels_and_waits() -> None:
    owner = TaskOwner("test")
    ended = []

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            ended.append(True)

    owner.spawn(work(), name="one")
    await asyncio.sleep(0)
    await owner.close()
    assert ended == [True]


async def test_a_failure_is_logged_with_its_name(caplog: pytest.LogCaptureFixture) -> None:
    owner = TaskOwner("test")

    async def fail() -> None:
        raise ValueError("boom")

    owner.spawn(fail(), name="two")
    await asyncio.sleep(0.01)
    assert "task test:two failed" in caplog.text
    assert "boom" in caplog.text
    await owner.close()
