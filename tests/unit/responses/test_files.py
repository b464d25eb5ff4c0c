"""Names of files, and who holds the folder."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from appliance.responses.files import BLOCK_BYTES, Kept, kept_in, locked, made_at, name_of, owner_of
from tests.unit.responses.making import made_id


def test_an_id_says_when_it_was_made() -> None:
    assert made_at(made_id(7, 1_700_000_000.9)) == 1_700_000_000


@pytest.mark.parametrize("asked", ["", "resp_", "../x", "resp_" + "g" * 48, made_id(1, 1) + "\n", made_id(1, 1) + "0"])
def test_what_is_no_id_is_no_file(asked: str) -> None:
    assert made_at(asked) is None


def test_owners_are_apart_and_not_named() -> None:
    assert owner_of("alice") != owner_of("bob")
    assert "alice" not in owner_of("alice")


def test_what_is_in_the_folder(tmp_path: Path) -> None:
    owner, asked = owner_of("alice"), made_id(1, 5)
    assert kept_in(tmp_path / "none") == []
    (tmp_path / owner).mkdir()
    for name in (f"{asked}.sealed", f".{asked}.tmp", "other"):
        (tmp_path / owner / name).write_bytes(b"x")
    (tmp_path / "stray").write_bytes(b"x")
    (found,) = kept_in(tmp_path)
    assert found == Kept(owner, asked, 5, BLOCK_BYTES)
    assert found.name == name_of(owner, asked)


def test_one_at_a_time(tmp_path: Path) -> None:
    order: list[str] = []

    def other() -> None:
        with locked(tmp_path / "responses"):
            order.append("other")

    with locked(tmp_path / "responses"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(0.05)
        order.append("first")
    thread.join()
    assert order == ["first", "other"]
