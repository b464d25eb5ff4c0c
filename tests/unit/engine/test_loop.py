"""The engine loop, with a fake runner and a scripted end."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from appliance.engine.advance import Sampled
from appliance.engine.limits import Limits
from appliance.engine.loop import EngineLoop
from appliance.engine.plan import Done, NoRoom, Outcome, Plan, ReuseLost
from appliance.engine.scheduler import Scheduler
from appliance.wire import Delta, Failed, Finished, Started, Step
from tests.unit.engine.making import make_sequence


class EndOfScript(Exception):
    """Ends the loop, which has no end of its own."""


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class FakeRunner:
    """Draws `a` for everybody. `before` is called with each plan and may answer it otherwise or end the loop."""

    def __init__(self, before: Callable[[Plan], Outcome | None] = lambda plan: None, *, overlaps: bool = False) -> None:
        self.overlaps = overlaps
        self.before = before
        self.closed: list[int] = []
        self.rests = 0

    def launch(self, plan: Plan) -> None:
        self.outcome = self.before(plan)

    def collect(self, plan: Plan) -> Outcome:
        return self.outcome or Done(tuple(Sampled(1, b"a", False) for item in plan.items if item.sample))

    def close(self, number: int) -> None:
        self.closed.append(number)

    def check_cache(self, residents: list[int]) -> None:
        self.rests += 1
        if self.rests == 2:
            raise EndOfScript


class FakeGuard:
    def __init__(self) -> None:
        self.calls: list[int | str] = []

    def step(self, tokens: int) -> None:
        self.calls.append(tokens)

    def rest(self) -> None:
        self.calls.append("rest")


def loop_of(runner: FakeRunner, sent: list[Step], clock: Clock | None = None) -> tuple[EngineLoop, FakeGuard]:
    limits = Limits(parallel=2, n_slots=2, n_cells=64, n_ctx=64, n_batch=16, n_ubatch=8)
    guard = FakeGuard()
    return EngineLoop(runner, Scheduler(limits), guard, sent.append, clock or Clock()), guard


def run(loop: EngineLoop) -> None:
    with pytest.raises(EndOfScript):
        loop.run()


def test_a_request_from_inbox_to_frames() -> None:
    runner, sent = FakeRunner(), list[Step]()
    loop, guard = loop_of(runner, sent)
    loop.submit(make_sequence(1, [5, 6], output_max=2))
    run(loop)
    assert [type(event) for step in sent for event in step.events] == [Started, Delta, Delta, Finished]
    assert sent[0].events == (Started(number=1, prompt_tokens=2, cached_tokens=0),), "before its first step runs"
    assert len(sent[2].events) == 2, "one frame a step"
    assert (sent[1].running, sent[2].running, sent[2].kv_cells) == (1, 0, 3)
    assert guard.calls == ["rest", 2, 1, "rest"]
    assert runner.closed == [1]


def test_an_abort_before_the_first_step() -> None:
    runner, sent = FakeRunner(), list[Step]()
    loop, _ = loop_of(runner, sent)
    loop.submit(make_sequence(1, [5]))
    loop.abort(1)
    loop.abort(2)
    run(loop)
    assert [event for step in sent for event in step.events] == [Failed(number=1, code=None, message="aborted")]


def test_no_room_and_a_lost_prefix_are_planned_again() -> None:
    outcomes: list[Outcome] = [ReuseLost((0,)), NoRoom()]
    runner = FakeRunner(lambda plan: outcomes.pop(0) if outcomes else None)
    sent: list[Step] = []
    loop, _ = loop_of(runner, sent)
    loop.submit(make_sequence(1, [5], output_max=1))
    loop.submit(make_sequence(2, [6], output_max=1))
    run(loop)
    ends = [event.number for step in sent for event in step.events if isinstance(event, Finished)]
    assert sorted(ends) == [1, 2]


def test_long_silence_is_broken_by_an_empty_frame() -> None:
    clock = Clock()

    def slow(plan: Plan) -> None:
        clock.now += 0.7

    sent: list[Step] = []
    loop, _ = loop_of(FakeRunner(slow), sent, clock)
    loop.submit(make_sequence(1, [5] * 60, output_max=1))
    run(loop)
    assert [len(step.events) for step in sent] == [1, 0, 2]


def test_an_exception_leaves_the_loop() -> None:
    def broken(plan: Plan) -> None:
        raise RuntimeError("the device is gone")

    loop, _ = loop_of(FakeRunner(broken), [])
    loop.submit(make_sequence(1, [5]))
    with pytest.raises(RuntimeError, match="device"):
        loop.run()


def test_books_that_do_not_agree_are_noticed_when_the_work_is_done() -> None:
    runner = FakeRunner()
    loop, _ = loop_of(runner, [])
    loop.submit(make_sequence(1, [5, 6], output_max=2))

    def spoil(plan: Plan) -> None:
        loop._scheduler._slots[1].tokens.append(7)

    runner.before = spoil
    with pytest.raises(AssertionError, match="slot 1 holds other cells than tokens"):
        loop.run()


def test_it_sleeps_until_something_arrives() -> None:
    runner, sent = FakeRunner(), list[Step]()
    loop, _ = loop_of(runner, sent)
    thread = threading.Thread(target=run, args=(loop,))
    thread.start()
    assert not loop.busy
    loop.submit(make_sequence(1, [5], output_max=1))
    thread.join(60)
    assert not thread.is_alive()
    assert (loop.status.kv_cells, loop.status.steps, loop.status.running) == (1, 1, 0)


def test_text_is_made_while_the_device_computes_the_next_step() -> None:
    sent: list[Step] = []
    texts_at_launch: list[int] = []

    def look(plan: Plan) -> None:
        texts_at_launch.append(sum(isinstance(event, Delta) for step in sent for event in step.events))

    runner = FakeRunner(look, overlaps=True)
    loop, _ = loop_of(runner, sent)
    loop.submit(make_sequence(1, [5, 6], output_max=3))
    run(loop)
    assert texts_at_launch == [0, 0, 1], "the text of a step leaves after the next has been launched"
    assert [type(event) for step in sent for event in step.events] == [Started, Delta, Delta, Delta, Finished]


def test_device_and_host_time_are_told_apart() -> None:
    clock = Clock()

    def collect(plan: Plan) -> Outcome:
        clock.now += 3.0
        return Done(tuple(Sampled(1, b"a", False) for item in plan.items if item.sample), device_seconds=2.0)

    loop, _ = loop_of(FakeRunner(collect), [], clock)
    loop.submit(make_sequence(1, [5], output_max=2))
    run(loop)
    assert (loop.status.steps, loop.status.device_seconds, loop.status.host_seconds) == (2, 4.0, 2.0)
