"""appliance.security.refusal_log"""

from __future__ import annotations

import asyncio
import logging

import pytest

from appliance.security import refusal_log
from appliance.security.refusal_log import ENTRIES_MAX, RefusalLog


@pytest.fixture
def refusals() -> RefusalLog:
    return RefusalLog(logging.getLogger("test.refusals"))


async def test_the_first_is_logged_at_once_and_the_rest_as_a_number(
    refusals: RefusalLog, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(1000):
        refusals.record("10.0.0.1", "denied", "is not in the allowlist")
    refusals.record("10.0.0.2", "denied", "is not in the allowlist")
    assert caplog.messages == ["10.0.0.1 is not in the allowlist", "10.0.0.2 is not in the allowlist"]
    refusals.flush()
    assert caplog.messages[2:] == ["10.0.0.1 is not in the allowlist (999 more in 10 s)"]
    refusals.record("10.0.0.2", "denied", "is not in the allowlist")
    refusals.record("10.0.0.1", "denied", "is not in the allowlist")
    assert len(caplog.messages) == 4, "who was quiet is news again, who went on is not"
    refusals.close()
    assert caplog.messages[4:] == ["10.0.0.1 is not in the allowlist (1 more in 10 s)"]


async def test_records_carry_address_and_reason(refusals: RefusalLog, caplog: pytest.LogCaptureFixture) -> None:
    refusals.record("10.0.0.1", "plain_http", "spoke plain HTTP")
    refusals.close()
    assert caplog.records[0].levelno == logging.WARNING
    assert vars(caplog.records[0])["address"] == "10.0.0.1"
    assert vars(caplog.records[0])["reason"] == "plain_http"


async def test_the_table_and_so_the_log_is_bounded(refusals: RefusalLog, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(10 * ENTRIES_MAX):
        refusals.record(f"2001:db8::{number:x}", "denied", "is not in the allowlist")
    assert len(caplog.messages) == ENTRIES_MAX
    refusals.close()
    assert caplog.messages[-1] == f"other addresses were refused {9 * ENTRIES_MAX} times in 10 s"
    assert len(caplog.messages) == ENTRIES_MAX + 1


async def test_control_characters_are_escaped(refusals: RefusalLog, caplog: pytest.LogCaptureFixture) -> None:
    refusals.record("10.0.0.1", "x", "said\nfake line\x1b[2J")
    refusals.close()
    assert caplog.messages == ["10.0.0.1 said\\x0afake line\\x1b[2J"]


async def test_windows_end_by_themselves(
    refusals: RefusalLog, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusal_log, "WINDOW_SECONDS", 0.02)
    for _ in range(3):
        refusals.record("10.0.0.1", "x", "sent junk")
    await asyncio.sleep(0.2)
    assert len(caplog.messages) == 2
    refusals.record("10.0.0.1", "x", "sent junk")
    assert len(caplog.messages) == 3
    refusals.close()
