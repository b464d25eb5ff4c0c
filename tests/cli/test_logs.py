"""`appliance logs`."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from appliance.cli.common import Appliance
from appliance.telemetry.log_buffer import LogBuffer
from tests.cli.conftest import Command


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a daemon would answer; `asked` is what it was asked."""
    page: dict[str, Any] = {"lines": [], "newest": 0, "dropped": 0}

    def ask(self: Appliance, path: str, **query: str | int | None) -> Any:
        page["asked"] = (path, query)
        return page

    monkeypatch.setattr(Appliance, "ask", ask)
    return page


def test_lines_that_say_the_same_are_one(cli: Command, page: dict[str, Any]) -> None:
    line = {"number": 1, "time": 1_763_600_000.5, "level": "warning", "logger": "a.b", "message": "x\x1b[31m"}
    page["lines"] = [line, line, {**line, "message": "y", "request_id": "r1", "exception": "File x\n  z"}]
    said = cli("logs", "--level", "warning", "-n", "5").ok()
    assert said.out == (
        "2025-11-20T00:53:20.500Z WARNING a.b: x\\x1b[31m  ×2\n"
        "2025-11-20T00:53:20.500Z WARNING a.b: [r1] y\nFile x\n  z\n"
    )
    assert page["asked"] == ("/logs", {"level": "warning", "since": None, "limit": 5})
    assert len(cli("logs", "--json").json) == 3


def test_without_a_daemon_it_names_the_journal(cli: Command) -> None:
    said = cli("logs")
    assert said.code == 1 and "journalctl -u appliance" in said.err


def test_following_goes_on_after_the_newest_line(cli: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer, logger, asked = LogBuffer(lines_max=10, bytes_max=2**20), logging.Logger("a"), []
    logger.addHandler(buffer)
    logger.info("first")

    def watch(self: Appliance, path: str, look: Any, **query: Any) -> None:
        for _ in range(2):
            asked.append(dict(query))
            found = buffer.page(after=query.get("after", 0))
            query.update(look({"lines": [{**_plain(line)} for line in found.lines], "newest": found.newest}))
            logger.info("second")

    monkeypatch.setattr(Appliance, "watch", watch)
    out = cli("logs", "--follow").ok().out
    assert [line.rpartition(": ")[2] for line in out.splitlines()] == ["first", "second"]
    assert asked[1]["after"] == 1


def _plain(line: Any) -> dict[str, Any]:
    return {name: getattr(line, name) for name in ("number", "time", "level", "logger", "message")}
