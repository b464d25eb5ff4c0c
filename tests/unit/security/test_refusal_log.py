"""appliance.security.refusal_log"""

from __future__ import annotations

import asyncio
import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.security import refusal_log
from appliance.security.refusal_log import ENTRIES_MAX, RefusalLog
from tests.waiting import until


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


async def test_clients_of_one_address_are_told_apart(refusals: RefusalLog, caplog: pytest.LogCaptureFixture) -> None:
    for principal in ("app", "bob", "bob", None):
        refusals.record("10.0.0.1", "invalid_api_key", "sent no API key", principal)
    lines = [f"10.0.0.1 {who}sent no API key" for who in ("(client app) ", "(client bob) ", "")]
    assert caplog.messages == lines
    assert vars(caplog.records[0])["address"] == "10.0.0.1"
    refusals.close()


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
    # One with repetitions, and one without.
    await until(lambda: refusals._window is None)
    assert len(caplog.messages) == 2
    refusals.record("10.0.0.1", "x", "sent junk")
    assert len(caplog.messages) == 3
    refusals.close()


class Told:
    """What the audit log is told."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, str, int, str | None]] = []

    def __call__(self, address: str, reason: str, sentence: str, times: int, principal: str | None) -> None:
        self.lines.append((address, reason, sentence, times, principal))

    @property
    def times(self) -> int:
        return sum(times for *_, times, _ in self.lines)


async def test_the_audit_log_is_told_of_every_line_and_of_how_many_it_stands_for() -> None:
    told = Told()
    refusals = RefusalLog(logging.getLogger("test.refusals"), told)
    for _ in range(3):
        refusals.record("10.0.0.1", "denied", "is not\nallowed", "demo")
    assert told.lines == [("10.0.0.1", "denied", "is not\nallowed", 1, "demo")], "the record escapes what it is given"
    refusals.close()
    assert told.lines[1:] == [("10.0.0.1", "denied", "is not\nallowed (2 more in 10 s)", 2, "demo")]


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 2 * ENTRIES_MAX), st.sampled_from("ab")) | st.none(), max_size=60),
    st.integers(1, 30),
)
def test_no_refusal_is_lost_or_counted_twice(records: list[tuple[int, str] | None], repeats: int) -> None:
    async def run() -> None:
        told = Told()
        refusals = RefusalLog(logging.getLogger("test.refusals"), told)
        for entry in records * repeats:
            if entry is None:
                refusals.flush()
            else:
                refusals.record(f"10.0.0.{entry[0]}", entry[1], "was refused")
        refusals.close()
        assert told.times == repeats * sum(entry is not None for entry in records)

    asyncio.run(run())


async def test_those_who_found_no_place_are_one_line_of_the_audit_log() -> None:
    told = Told()
    refusals = RefusalLog(logging.getLogger("test.refusals"), told)
    for number in range(ENTRIES_MAX + 5):
        refusals.record(f"2001:db8::{number:x}", "denied", "is not allowed")
    refusals.close()
    assert told.lines[-1] == ("other addresses", "folded", "were refused 5 times in 10 s", 5, None)
    assert told.times == ENTRIES_MAX + 5
