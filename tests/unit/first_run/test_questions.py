from __future__ import annotations

from collections.abc import Sequence

from appliance.first_run.answers import Answers
from appliance.first_run.questions import Terminal, ask_all


class Typist:
    """Types what it was given, in order; an empty line takes what is usual."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._lines = list(lines)
        self.shown: list[str] = []

    def ask(self, question: str, usual: str) -> str:
        self.shown.append(question)
        return self._lines.pop(0) or usual

    def all(self) -> Answers:
        return ask_all(Terminal(self.ask, self.shown.append), "server1")


def test_what_is_usual_is_enough() -> None:
    assert Typist([""] * 10).all() == Answers(names=("server1",))


def test_what_is_typed_counts() -> None:
    typed = ["a.lan, b.lan", "::", "443", "192.0.2.0/24", "request", "anna", "/m", "file", "webapp", "yes"]
    found = Typist(typed).all()
    assert found == Answers(
        names=("a.lan", "b.lan"),
        address="::",
        port=443,
        allow=("192.0.2.0/24",),
        certificate="request",
        administrators={"anna": ("operator", "security")},
        model_dir="/m",
        key_encryption="file",
        client="webapp",
    )


def test_what_cannot_be_is_asked_for_again() -> None:
    typist = Typist(["", "here", "", "many", "", "192.0.2.5/24", "", "maybe", "", "", "", "", "", ""])
    assert typist.all() == Answers(names=("server1",))
    assert any("does not appear to be" in line for line in typist.shown)


def test_whoever_says_no_begins_again() -> None:
    typist = Typist([*[""] * 9, "no", *[""] * 10])
    assert typist.all() == Answers(names=("server1",))
    assert sum("Set it up" in line for line in typist.shown) == 2


def test_what_does_not_go_together_is_asked_for_again() -> None:
    typist = Typist(["", "", "", "", "", "", "relative", "", "", *[""] * 10])
    assert typist.all() == Answers(names=("server1",))
    assert any("absolute" in line for line in typist.shown)
