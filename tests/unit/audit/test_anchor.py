"""appliance.audit.anchor"""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.audit import anchor
from appliance.audit.anchor import Checkpoint, append_checkpoint, newest_checkpoint, read_checkpoints

POINTS = [Checkpoint(number, f"{number:064x}", "2026-11-25T12:00:00.000000Z") for number in range(100)]


def test_checkpoints_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "anchor"
    for point in POINTS:
        append_checkpoint(path, point)
    assert read_checkpoints(path) == (POINTS, 0)
    assert newest_checkpoint(path) == POINTS[-1]
    monkeypatch.setattr(anchor, "CHECKPOINTS_MAX", 10)
    assert read_checkpoints(path) == (POINTS[-10:], 0)


def test_lines_that_cannot_be_read_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "anchor"
    append_checkpoint(path, POINTS[1])
    with path.open("ab") as file:
        file.write(b"\xff\xfe\n\n" + b"x" * 2000 + b"\n")
    append_checkpoint(path, POINTS[2])
    with path.open("ab") as file:
        file.write(b'{"seq":')
    points, unreadable = read_checkpoints(path)
    assert points == POINTS[1:3] and unreadable >= 3
    assert newest_checkpoint(path) == POINTS[2]


def test_an_empty_anchor_knows_nothing(tmp_path: Path) -> None:
    path = tmp_path / "anchor"
    path.touch()
    assert newest_checkpoint(path) is None and read_checkpoints(path) == ([], 0)
    with pytest.raises(FileNotFoundError):
        newest_checkpoint(tmp_path / "none")
