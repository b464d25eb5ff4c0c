from __future__ import annotations

import errno
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
