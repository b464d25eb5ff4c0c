"""appliance.security.secret_files"""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import StateError
from appliance.security.secret_files import Generations
from appliance.state_dir import write_atomic


def test_the_first_generation_is_created_once(tmp_path: Path) -> None:
    first = Generations.open(tmp_path, "pepper", create=True)
    again = Generations.open(tmp_path, "pepper", create=True)
    assert first.newest == 1
    assert first.get(1) == again.get(1)
    assert len(first.get(1) or b"") == 32
    assert (tmp_path / "pepper.1").stat().st_mode & 0o777 == 0o600


def test_a_missing_secret_is_not_made_up(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"kek\.1 is missing; restore"):
        Generations.open(tmp_path, "kek", create=False)


def test_the_newest_is_by_number_and_older_ones_stay_readable(tmp_path: Path) -> None:
    for generation in (2, 9, 10):
        write_atomic(tmp_path / f"pepper.{generation}", bytes([generation]) * 32)
    write_atomic(tmp_path / "pepper.txt", b"not a generation")
    write_atomic(tmp_path / "peppers.11", b"another name")
    generations = Generations.open(tmp_path, "pepper", create=False)
    assert generations.newest == 10
    assert generations.get(2) == bytes([2]) * 32
    assert generations.get(1) is None
    passwords = generations.passwords("something")
    assert len(set(passwords)) == 3
    assert passwords[0] == Generations("other", {1: bytes([10]) * 32}).passwords("something")[0]
    assert not set(passwords) & set(generations.passwords("something else"))


@pytest.mark.parametrize("content", [b"", b"short", bytes(33)])
def test_a_damaged_secret_is_refused(tmp_path: Path, content: bytes) -> None:
    write_atomic(tmp_path / "pepper.1", content)
    with pytest.raises(StateError, match=r"pepper\.1"):
        Generations.open(tmp_path, "pepper", create=True)


def test_a_loose_mode_is_refused(tmp_path: Path) -> None:
    write_atomic(tmp_path / "pepper.1", bytes(32), 0o640)
    with pytest.raises(StateError, match="mode 0640"):
        Generations.open(tmp_path, "pepper", create=True)


def test_printing_shows_no_secret() -> None:
    assert repr(Generations("pepper", {1: b"x" * 32})) == "Generations('pepper', [1])"
