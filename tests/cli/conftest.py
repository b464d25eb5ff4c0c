"""`appliance` commands as a user types them, without a daemon: the same admin API, served by the command itself."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

import appliance.cli
from appliance.cli import main
from appliance.state_dir import StateDir
from tests.admin.conftest import founded, state

__all__ = ["cli", "command", "founded", "state"]


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def ok(self) -> Said:
        assert self.code == 0, self
        return self


Command = Callable[..., Said]


class _Typed(io.StringIO):
    """Standard input with something to read."""

    def isatty(self) -> bool:
        return False


@pytest.fixture(scope="session")
def parser() -> Any:
    """The command as typer compiles it, once: that takes longer than most commands."""
    return typer.main.get_command(appliance.cli.app)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, parser: Any) -> Command:
    """One command in this process, which saves the second that Python takes to import it."""
    for name in ("APPLIANCE_STATE_DIR", "APPLIANCE_ADMIN_URL", "APPLIANCE_ADMIN_BUNDLE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(appliance.cli, "app", parser)

    def run(*arguments: str | Path, typed: str = "", columns: int | None = None) -> Said:
        out, err = io.StringIO(), io.StringIO()
        with monkeypatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            patch.setattr(sys, "argv", ["appliance", *map(str, arguments)])
            patch.setattr(sys, "stdin", _Typed(typed))
            if columns is not None:
                patch.setenv("COLUMNS", str(columns))
            code: Any = 0
            try:
                main()
            except SystemExit as end:
                code = end.code or 0
        said = Said(code, out.getvalue(), err.getvalue())
        assert "Traceback" not in said.err + said.out
        return said

    return run


@pytest.fixture
def cli(command: Command, state: StateDir) -> Command:
    """The same on a state directory that was founded."""
    return lambda *arguments, **options: command(*arguments, "--state-dir", state.path, **options)
