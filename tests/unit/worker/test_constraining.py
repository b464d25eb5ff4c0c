"""A constrained request is submitted, refused or was aborted: exactly one of them."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from appliance.engine.sequence import Matcher, Sequence
from appliance.errors import RequestError
from appliance.types import Constraint
from appliance.worker.constraining import Constraining
from tests.unit.engine.making import make_sequence

WANTED = Constraint(kind="regex", text="secret")


class FakeCompiler:
    """Compiles when it is let to."""

    def __init__(self, outcome: Exception | None = None) -> None:
        self.warm = False
        self.outcome = outcome
        self.may_go_on = threading.Event()
        self.began = threading.Event()

    def warm_up(self) -> None:
        self.warm = True

    def compile(self, constraint: Constraint, prompt: list[int]) -> Matcher:
        self.began.set()
        assert self.may_go_on.wait(60)
        if self.outcome is not None:
            raise self.outcome
        made: Any = "a matcher"
        return made  # type: ignore[no-any-return]


class Ends(Exception):
    """Ends the thread."""


class Record:
    """What became of the sequences. Ends the thread after the last of `until`."""

    def __init__(self, compiler: FakeCompiler) -> None:
        self.submitted: list[Sequence] = []
        self.refused: list[tuple[int, str]] = []
        self.done = threading.Event()
        self.constraining = Constraining(compiler, self._submit, self._refuse, lambda: False)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.constraining.run()
        except Ends:
            self.done.set()

    def _submit(self, sequence: Sequence) -> None:
        self.submitted.append(sequence)
        if sequence.number == 99:
            raise Ends

    def _refuse(self, number: int, error: RequestError) -> None:
        self.refused.append((number, error.code))
        if number == 99:
            raise Ends

    def wait(self) -> None:
        assert self.done.wait(60)


def test_a_compiled_one_is_submitted_with_its_matcher() -> None:
    compiler = FakeCompiler()
    record = Record(compiler)
    compiler.may_go_on.set()
    record.constraining.take(make_sequence(99, [1]), WANTED)
    record.wait()
    assert [str(sequence.matcher) for sequence in record.submitted] == ["a matcher"]
    assert (record.refused, record.constraining.waiting) == ([], 0)


@pytest.mark.parametrize(
    ("error", "code"),
    [(RequestError("invalid_request", "no"), "invalid_request"), (ValueError("secret"), "internal_error")],
)
def test_what_cannot_be_compiled_is_refused(error: Exception, code: str, capsys: pytest.CaptureFixture[str]) -> None:
    compiler = FakeCompiler(error)
    record = Record(compiler)
    compiler.may_go_on.set()
    record.constraining.take(make_sequence(99, [1]), WANTED)
    record.wait()
    assert (record.submitted, record.refused) == ([], [(99, code)])
    assert "secret" not in capsys.readouterr().err


def test_an_abort_in_the_middle_leaves_nothing_to_do() -> None:
    compiler = FakeCompiler()
    record = Record(compiler)
    record.constraining.take(make_sequence(1, [1]), WANTED)
    assert compiler.began.wait(60)
    record.constraining.take(make_sequence(2, [1]), WANTED)
    assert record.constraining.waiting == 2
    assert record.constraining.abort(1) and record.constraining.abort(2)
    assert not record.constraining.abort(1)
    record.constraining.take(make_sequence(99, [1]), WANTED)
    compiler.may_go_on.set()
    record.wait()
    assert [sequence.number for sequence in record.submitted] == [99]
