"""The newest lines in memory: bounded, safe, without secrets, and which of them are asked for."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator

import pytest

from appliance.telemetry.log_buffer import LogBuffer, level_of
from appliance.telemetry.log_context import ABOUT, LogContext

KEY = "apl_sk_" + "k" * 12 + "_" + "s" * 40


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    made = logging.Logger("a.b")
    yield made


def kept(logger: logging.Logger, lines_max: int = 100, bytes_max: int = 2**20) -> LogBuffer:
    buffer = LogBuffer(lines_max=lines_max, bytes_max=bytes_max)
    logger.addHandler(buffer)
    return buffer


def test_the_newest_lines_stay(logger: logging.Logger) -> None:
    buffer = kept(logger, lines_max=3)
    for number in range(5):
        logger.info("line %d", number)
    page = buffer.page()
    assert [line.message for line in page.lines] == ["line 2", "line 3", "line 4"]
    assert [line.number for line in page.lines] == [3, 4, 5]
    assert (page.newest, page.dropped) == (5, 2)


def test_bytes_are_bounded_too(logger: logging.Logger) -> None:
    buffer = kept(logger, bytes_max=10_000)
    for _ in range(100):
        logger.info("x" * 1000)
    assert 5 <= len(buffer.page().lines) <= 10
    logger.info("y" * 100_000)
    assert buffer.page().lines == ()


def test_what_is_asked_for(logger: logging.Logger) -> None:
    buffer = kept(logger)
    logger.debug("a")
    logger.warning("b")
    logger.error("c")
    assert [line.message for line in buffer.page(level="warning").lines] == ["b", "c"]
    assert [line.message for line in buffer.page(limit=1).lines] == ["c"]
    assert [line.message for line in buffer.page(after=2).lines] == ["c"]
    # The number of an earlier run.
    assert len(buffer.page(after=1000).lines) == 3
    assert buffer.page(since=buffer.page().lines[-1].time + 1).lines == ()


def test_untrusted_text_is_safe_and_secrets_are_gone(logger: logging.Logger) -> None:
    buffer = kept(logger)
    try:
        raise ValueError(f"\x1b[31m {KEY}")
    except ValueError:
        logger.exception("model %s %s", "x\n\x1b[31m", KEY)
    (line,) = buffer.page().lines
    assert line.exception is not None and "Traceback" in line.exception
    for text in (line.message, line.exception):
        assert "\x1b" not in text and "s" * 40 not in text and "[redacted]" in text
    assert "\n" not in line.message


def test_a_line_names_its_request(logger: logging.Logger) -> None:
    buffer = kept(logger)
    token = ABOUT.set(LogContext("r1", "t1"))
    logger.info("a")
    ABOUT.reset(token)
    logger.info("b")
    first, second = buffer.page().lines
    assert (first.request_id, first.trace_id) == ("r1", "t1")
    assert second.request_id is None


def test_a_line_that_cannot_be_formatted_stops_nobody(logger: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = kept(logger)
    monkeypatch.setattr(sys, "stderr", None)
    logger.info("%d", "no number")
    logger.info("next")
    assert [line.message for line in buffer.page().lines] == ["next"]


def test_levels_between_the_standard_ones() -> None:
    assert [level_of(number) for number in (0, 10, 25, 30, 45, 50)] == [
        *("debug", "debug", "info", "warning", "error", "critical")
    ]
