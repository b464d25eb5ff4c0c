"""Room on the disk: what it means, and that it follows the file system."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from appliance.access_config import Audit
from appliance.security.disk_guard import DiskGuard, room

LIMITS = Audit(disk_warn_bytes=1000, disk_min_bytes=100)


@pytest.mark.parametrize(
    ("free", "meaning"), [(0, "too_little"), (99, "too_little"), (100, "low"), (999, "low"), (1000, "enough")]
)
def test_what_free_bytes_mean(free: int, meaning: str) -> None:
    assert room(free, LIMITS) == meaning


def test_it_follows_the_file_system_and_says_what_changes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    guard = DiskGuard(tmp_path, Audit(disk_warn_bytes=2**62, disk_min_bytes=2**61))
    caplog.set_level(logging.INFO)
    guard.look()
    guard.look()
    assert guard.room == "too_little"
    assert guard.free_bytes > 0
    assert len(caplog.messages) == 1
    assert "audit.disk_min_bytes" in caplog.messages[0]


def test_a_folder_that_is_gone_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    guard = DiskGuard(tmp_path / "gone", LIMITS)
    guard.look()
    assert guard.room == "enough"
    assert "cannot be asked" in caplog.text
