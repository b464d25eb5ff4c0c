"""Every command, argument and option says what it does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cli.conftest import Command


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


def test_every_command_says_what_it_does_and_every_option_too(parser: Any) -> None:
    found = dict(commands(parser))
    assert len(found) > 40
    for path, command in found.items():
        text = (command.help or "").strip()
        assert text, path
        first = text.split("\n\n")[0].replace("\n", " ")
        assert first[0].isupper(), path
        assert first.endswith((".", ".)")), (path, first)
        for parameter in command.params:
            assert getattr(parameter, "help", None), (path, parameter.name)


def test_what_harms_asks_first_and_what_is_listed_has_json(parser: Any) -> None:
    for path, command in commands(parser):
        options = {name for parameter in command.params for name in parameter.opts}
        if path[-1] in ("revoke", "rekey", "retire-pepper", "rotate-ca"):
            assert {"--yes", "--plan"} <= options, path
        if "--plan" in options:
            assert {"--approval", "--if-generation"} <= options, path
        if path[-1] in ("list", "status"):
            assert "--json" in options, path


def test_help_reads_well_on_eighty_columns(command: Command, parser: Any) -> None:
    groups = sorted({path[0] for path, _ in commands(parser) if len(path) == 2})
    for arguments in (
        (),
        *((group,) for group in groups),
        ("keys", "rotate"),
        ("certs", "rotate-ca"),
        ("backup", "restore"),
    ):
        said = command(*arguments, "--help", columns=80).ok()
        assert max(map(len, said.out.splitlines())) <= 80
        assert "Example" not in said.out or re.search(r"^ Example: appliance ", said.out, re.M)
        assert "…" not in said.out, said.out


@pytest.mark.parametrize("arguments", [("keys",), ()])
def test_a_group_alone_shows_its_help(command: Command, arguments: tuple[str, ...]) -> None:
    said = command(*arguments)
    assert said.code == 2
    assert "Usage" in said.out + said.err


def test_a_mistyped_command_is_usage(command: Command) -> None:
    for arguments in (("keyz",), ("keys", "ad"), ("keys", "add"), ("keys", "list", "--jsn")):
        said = command(*arguments)
        assert said.code == 2
        assert "Usage" in said.err
