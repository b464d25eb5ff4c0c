"""Compares what is on the screen with a text file; `UPDATE_GOLDEN=1 pytest tests/tui` writes the files anew."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Final

_FOLDER: Final = Path(__file__).parent / "golden"


def check_golden(name: str, text: str) -> None:
    """Fails with the difference, in lines."""
    path = _FOLDER / f"{name}.txt"
    text = text.rstrip("\n") + "\n"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
        return
    expected = path.read_text() if path.exists() else ""
    if text != expected:
        changes = difflib.unified_diff(expected.splitlines(), text.splitlines(), "expected", "shown", lineterm="", n=0)
        raise AssertionError(f"{path.name} differs:\n" + "\n".join(changes))
