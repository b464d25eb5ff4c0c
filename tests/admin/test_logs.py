"""The service log's newest lines through the admin API and the command."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from appliance.admin_client import AdminClient
from appliance.state_dir import StateDir
from appliance.telemetry.log_buffer import LogBuffer
from tests.admin.desk import Desk, refused


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    yield logging.Logger("some.part")


@pytest.fixture
def buffer(logger: logging.Logger) -> LogBuffer:
    made = LogBuffer(lines_max=100, bytes_max=2**20)
    logger.addHandler(made)
    return made


async def test_lines_are_asked_for_by_level_and_number(
    state: StateDir, buffer: LogBuffer, logger: logging.Logger
) -> None:
    async with Desk.open(state, log_buffer=buffer) as desk, desk.client() as admin:
        logger.info("a")
        logger.warning("b")
        page = await admin.get("/logs")
        assert [line["message"] for line in page["lines"]] == ["a", "b"]
        assert (page["newest"], page["dropped"]) == (2, 0)
        assert [line["message"] for line in (await admin.get("/logs", level="warning"))["lines"]] == ["b"]
        assert (await admin.get("/logs", after=2))["lines"] == []
        assert len((await admin.get("/logs", limit=1, since="2020-01-01T00:00:00+00:00"))["lines"]) == 1
        error = await refused(admin.get("/logs", level="warnign"))
        assert error.code == "invalid" and "did you mean warning?" in str(error)


async def test_without_a_daemon_it_says_where_the_journal_is(admin: AdminClient) -> None:
    error = await refused(admin.get("/logs"))
    assert error.code == "conflict" and "journalctl -u appliance" in str(error)
