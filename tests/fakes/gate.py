"""What holds a scripted answer until the test lets it go on: no answer is late or early by luck."""

from __future__ import annotations

from pathlib import Path


class Gate:
    """Closed at first. In a script `word` is where the worker waits: `until` of tests/fakes/scripted_worker.py."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def word(self) -> str:
        return f"until:{self._path}"

    def open(self) -> None:
        """All that wait here go on, and nobody waits here any more."""
        self._path.touch()
