"""`appliance first-run`, as far as it goes on a host that is not to be configured; tests/system carries it out."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.first_run.answers import read_answers
from tests.cli.conftest import Command


def test_the_example_can_be_used_as_it_is(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "answers.yaml"
    path.write_text(command("first-run", "--example").ok().out)
    assert read_answers(path).names


@pytest.mark.parametrize(
    ("text", "says"),
    [("prot: 1", "unknown key"), ("administrators: {no-such-user: [operator]}", "no user no-such-user")],
)
def test_answers_that_cannot_be_change_nothing(command: Command, tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "answers.yaml"
    path.write_text(text)
    said = command("first-run", "--answers", str(path))
    assert said.code == 1
    assert says in said.err or "sudo" in said.err


def test_nobody_who_answers_is_told_of_the_file(command: Command) -> None:
    said = command("first-run")
    assert said.code == 1
    assert "--answers" in said.err
