"""appliance.clock"""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance import clock
from appliance.clock import clock_synchronized, utc_now


def test_the_clock_is_aware() -> None:
    assert utc_now().tzinfo is not None


def test_the_kernel_knows_whether_it_is_synchronised() -> None:
    assert clock_synchronized() in (True, False)


@pytest.mark.parametrize(("status", "right"), [(0, True), (0x2001, True), (0x40, False), (0x2041, False)])
def test_what_its_status_means(status: int, right: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "_kernel_status", lambda: status)
    assert clock_synchronized() is right


def test_where_the_kernel_may_not_be_asked_a_file_can_say_yes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "_kernel_status", lambda: None)
    assert clock_synchronized(tmp_path / "synchronized") is None
    (tmp_path / "synchronized").touch()
    assert clock_synchronized(tmp_path / "synchronized") is True
