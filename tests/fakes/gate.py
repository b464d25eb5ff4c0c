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


class Steps:
    """An answer in pieces `0 `, `1 ` and so on, each of which is not said before the one before it has come."""

    def __init__(self, folder: Path, count: int = 10) -> None:
        self._gates = [Gate(folder / f"open-{number}") for number in range(count)]
        self.come = 0
        self.given_up = False

    @property
    def script(self) -> str:
        return " ".join(f"say:{number}_ {gate.word}" for number, gate in enumerate(self._gates))

    def take(self, line: bytes) -> None:
        """A line of the stream."""
        if self.come < len(self._gates) and b'"text":"%d "' % self.come in line:
            self._gates[self.come].open()
            self.come += 1

    def give_up(self) -> None:
        """All is said, come or not."""
        self.given_up = True
        for gate in self._gates:
            gate.open()

    @property
    def whole(self) -> bool:
        return self.come == len(self._gates)
