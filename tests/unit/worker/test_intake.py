"""A request is handed on or answered, never both and never neither."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from appliance.engine.loop import EngineLoop
from appliance.engine.prompt import ReadPrompt
from appliance.engine.runner.preparer import check_logit_bias
from appliance.engine.sequence import Matcher, Sequence
from appliance.errors import RequestError
from appliance.types import CallChoice, Constraint, Prompt, Reading, SamplingParams, TextPrompt
from appliance.wire import Abort, Add, Failed, Finished, PromptRead, Step
from appliance.worker.intake import Intake


class FakeReader:
    def __init__(self, answer: list[int] | Exception) -> None:
        self.answer = answer

    def read(self, prompt: Prompt, must_call: CallChoice | None = None) -> ReadPrompt:
        if isinstance(self.answer, Exception):
            raise self.answer
        constraint = None if must_call is None else Constraint(kind="regex", text="a", param=must_call.param)
        return ReadPrompt(self.answer, constraint=constraint)

    def look(self, number: int, prompt: Prompt, reading: Reading) -> PromptRead:
        tokens = self.read(prompt).tokens
        return PromptRead(number=number, text="text", tokens=tuple(tokens), pieces=())


class FakePreparer:
    """Knows the tokens 0 to 99."""

    def prepare(self, params: SamplingParams) -> None:
        check_logit_bias(params, 100)


class NoCompiler:
    """Nothing here reaches it: its thread does not run."""

    warm = True

    def warm_up(self) -> None: ...

    def compile(self, constraint: Constraint, prompt: list[int]) -> Matcher:
        raise AssertionError


class FakeLoop:
    """Records what it is handed."""

    def __init__(self) -> None:
        self.submitted: list[Sequence] = []
        self.aborted: list[int] = []
        self.status = Step(running=2, waiting=1, kv_cells=9)
        self.submit = self.submitted.append
        self.abort = self.aborted.append


def intake(answer: list[int] | Exception) -> SimpleNamespace:
    loop, sent = FakeLoop(), list[Step]()
    reader, preparer, engine = FakeReader(answer), FakePreparer(), cast(EngineLoop, loop)
    made = Intake(reader, preparer, NoCompiler(), engine, 10, sent.append, clock=lambda: 5.0)
    return SimpleNamespace(intake=made, loop=loop, sent=sent)


def add(**changes: Any) -> Add:
    fields: dict[str, Any] = {"prompt": TextPrompt(text="secret"), "sampling": SamplingParams(), "max_tokens": None}
    return Add(number=4, principal="p", cache_domain="d", stop=("x",), **(fields | changes))


@pytest.mark.parametrize(("max_tokens", "output_max"), [(None, 7), (3, 3), (100, 7)])
def test_a_good_request_goes_to_the_engine(max_tokens: int | None, output_max: int) -> None:
    made = intake([1, 2, 3])
    made.intake.add(add(max_tokens=max_tokens))
    (sequence,) = made.loop.submitted
    assert (sequence.number, sequence.tokens, sequence.output_max, sequence.arrived) == (4, [1, 2, 3], output_max, 5.0)
    assert made.sent == []


def test_a_refusal_is_one_failed_with_the_present_figures() -> None:
    error = RequestError("context_length_exceeded", "too long", param="prompt", details={"n_ctx": 10})
    made = intake(error)
    made.intake.add(add())
    failed = Failed(number=4, code="context_length_exceeded", message="too long", param="prompt", details={"n_ctx": 10})
    assert made.sent == [Step(events=(failed,), running=2, waiting=1, kv_cells=9)]
    assert made.loop.submitted == []


def test_max_tokens_must_not_be_negative() -> None:
    made = intake([1])
    made.intake.add(add(max_tokens=-1))
    assert made.sent[0].events[0].code == "invalid_request"


def test_a_bias_beyond_the_vocabulary_is_refused() -> None:
    made = intake([1])
    made.intake.add(add(sampling=SamplingParams(logit_bias={100: 1.0})))
    failed = made.sent[0].events[0]
    assert (failed.code, failed.param) == ("invalid_request", "logit_bias")
    assert "token 100" in failed.message and made.loop.submitted == []


def test_a_bug_fails_the_request_and_does_not_log_its_text(capsys: pytest.CaptureFixture[str]) -> None:
    made = intake(ValueError("secret"))
    made.intake.add(add())
    assert made.sent[0].events[0].code == "internal_error"
    logged = capsys.readouterr().err
    assert "ValueError" in logged and "secret" not in logged


def test_aborts_are_passed_on() -> None:
    made = intake([1])
    made.intake.abort(Abort(number=9))
    assert made.loop.aborted == [9]


def test_a_prompt_that_is_looked_at_never_gets_to_the_engine() -> None:
    made = intake([1, 2])
    made.intake.add(add(reading=Reading()))
    (step,) = made.sent
    read, finished = step.events
    assert isinstance(read, PromptRead) and (read.number, read.tokens) == (4, (1, 2))
    assert isinstance(finished, Finished) and finished.usage.prompt_tokens == 0
    assert made.loop.submitted == []


def test_a_constraint_is_compiled_by_another_thread_until_it_is_aborted() -> None:
    made = intake([1])
    made.intake.add(add(constraint=Constraint(kind="regex", text="a")))
    assert (made.loop.submitted, made.sent, made.intake.constraining.waiting) == ([], [], 1)
    made.intake.abort(Abort(number=4))
    assert made.sent[0].events == (Failed(number=4, code=None, message="aborted"),)
    assert (made.loop.aborted, made.intake.constraining.waiting) == ([], 0)


def test_what_must_be_calls_is_compiled_too() -> None:
    made = intake([1])
    made.intake.add(add(must_call=CallChoice()))
    assert (made.loop.submitted, made.sent, made.intake.constraining.waiting) == ([], [], 1)
