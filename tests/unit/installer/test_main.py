from __future__ import annotations

import errno
import io
import subprocess
import sys
from pathlib import Path

import pytest

import installer.__main__
from installer.commands import Setup
from installer.layout import Layout


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left"),
        (subprocess.TimeoutExpired("pip", 1800), "pip"),
    ],
)
def test_whatever_ends_a_step_is_said_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception, says: str
) -> None:
    def fail(*_: object) -> None:
        raise fault

    layout = Layout(tmp_path)
    layout.product.mkdir(parents=True)
    layout.journal.touch()
    monkeypatch.setattr(Setup, "verify", fail)
    monkeypatch.setattr(installer.__main__, "Layout", lambda root: layout)
    monkeypatch.setattr(sys, "argv", ["appliance-setup", "verify", "bundle.tar"])
    with pytest.raises(SystemExit, match=rf"(?s)^appliance-setup: .*{says}.*a change is not finished"):
        installer.__main__.main()


@pytest.mark.parametrize("seconds", ["nan", "inf", "-1", "0", "1e9", "soon"])
def test_a_deadline_that_never_comes_is_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], seconds: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["appliance-setup", "rollback", "--plan", f"--gate-seconds={seconds}"])
    with pytest.raises(SystemExit) as ended:
        installer.__main__.main()
    assert ended.value.code == 2
    assert "--gate-seconds" in capsys.readouterr().err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_whoever_hangs_up_has_not_agreed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout(tmp_path)
    layout.state.mkdir(parents=True)
    monkeypatch.setattr(installer.__main__, "Layout", lambda root: layout)
    monkeypatch.setattr(installer.__main__, "_LOCK", str(tmp_path / "lock"))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(sys, "argv", ["appliance-setup", "uninstall", "--purge"])
    with pytest.raises(SystemExit, match="nothing was removed"):
        installer.__main__.main()
    assert layout.state.is_dir()
