"""What holds a scripted answer until the test lets it go on: no answer is late or early by luck."""

from __future__ import annotations

import json
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


class Steps:
    """A streamed completion of the pieces `0 `, `1 ` and so on: none is said before the one before it has come.

    given_up: whether they did not come one by one.
    """

    def __init__(self, folder: Path, count: int = 10) -> None:
        self._gates = [Gate(folder / f"open-{number}") for number in range(count)]
        self._text = ""
        self.given_up = False

    @property
    def script(self) -> str:
        return " ".join(f"say:{number}_ {gate.word}" for number, gate in enumerate(self._gates))

    @property
    def whole(self) -> bool:
        return self._text == "".join(f"{number} " for number in range(len(self._gates)))

    def take(self, line: bytes) -> None:
        """A line of the stream."""
        if line.startswith(b"data: {"):
            self._text += "".join(choice["text"] for choice in json.loads(line.removeprefix(b"data: "))["choices"])
            for gate in self._gates[: self._text.count(" ")]:
                gate.open()

    def give_up(self) -> None:
        """All of them may come together now."""
        self.given_up = True
        for gate in self._gates:
            gate.open()
