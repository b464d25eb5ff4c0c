"""The scheduler's rules, one by one and under random load."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from appliance.engine.advance import Advance
from appliance.engine.limits import Limits
from appliance.engine.plan import CopyPrefix, KeepPrefix, SaveState
from appliance.engine.scheduler import Scheduler
from appliance.engine.sequence import Sequence
from appliance.types import LogprobParams
from appliance.wire import Delta, Event, Failed, Finished, Scored, Started
from tests.examples import at_most
from tests.unit.engine.fake_cache import FakeCache, expected
from tests.unit.engine.making import make_sequence


def limits(**changes: Any) -> Limits:
    values = {"parallel": 2, "n_slots": 2, "n_cells": 64, "n_ctx": 64, "n_batch": 16, "n_ubatch": 8} | changes
    return Limits(**values)


def long_winded(output_max: int, *, first: int) -> list[int]:
    """A prompt whose answer does not end before `output_max`."""
    candidates = ([first, second, third] for second in range(1, 23) for third in range(1, 23))
    return next(each for each in candidates if expected(each, output_max).count("<") == output_max)


def step(scheduler: Scheduler, cache: FakeCache, now: float = 0.0, device_seconds: float = 0.0) -> list[Event]:
    plan = scheduler.schedule(now)
    sampled = cache.execute(plan)
    return told([*plan.events, *scheduler.commit(plan, sampled, now, device_seconds, cache.score(plan))])


def told(happened: Iterable[Event | Advance]) -> list[Event]:
    return [event for each in happened for event in (each.events() if isinstance(each, Advance) else [each])]


def run(scheduler: Scheduler, cache: FakeCache) -> list[Event]:
    events: list[Event] = []
    while scheduler.has_work:
        events += step(scheduler, cache)
        scheduler.check_integrity()
    return events


def text_of(number: int, events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta) and event.number == number)


def test_one_sequence_from_start_to_end() -> None:
    of = limits()
    scheduler = Scheduler(of)
    scheduler.add(make_sequence(1, [3, 5, 7], output_max=4))
    events = run(scheduler, FakeCache(of))
    assert events[0] == Started(number=1, prompt_tokens=3, cached_tokens=0)
    assert text_of(1, events) == expected([3, 5, 7], 4)
    assert isinstance(events[-1], Finished)
    assert (scheduler.running, scheduler.waiting) == (0, 0)


def test_a_long_prompt_and_a_stream_take_turns() -> None:
    of = limits(n_cells=256, n_ctx=256)
    scheduler, cache = Scheduler(of), FakeCache(of)
    scheduler.add(make_sequence(1, [3], output_max=20))
    step(scheduler, cache)
    scheduler.add(make_sequence(2, [4] * 100, output_max=1))
    sizes = []
    for _ in range(4):
        plan = scheduler.schedule(0.0)
        sizes.append((plan.decoding, plan.tokens))
        scheduler.commit(plan, cache.execute(plan), 0.0)
    assert sizes == [(False, of.n_ubatch), (True, 1), (False, of.n_ubatch), (True, 1)]


def test_a_prompt_alone_fills_the_batch_once_its_speed_is_known() -> None:
    of = limits(n_cells=1024, n_ctx=1024, n_batch=512, n_ubatch=128)
    scheduler, cache = Scheduler(of), FakeCache(of)
    scheduler.add(make_sequence(1, [4] * 1000))
    sizes = []
    for _ in range(2):
        plan = scheduler.schedule(0.0)
        sizes.append(plan.tokens)
        scheduler.commit(plan, cache.execute(plan), 0.0, device_seconds=0.001)
    assert sizes == [of.n_ubatch, of.n_batch]


def test_the_next_turn_reuses_its_slot() -> None:
    of = limits()
    scheduler, cache = Scheduler(of), FakeCache(of)
    scheduler.add(make_sequence(1, list(range(20, 40)), output_max=3))
    run(scheduler, cache)
    scheduler.add(make_sequence(2, [*range(20, 40), 8], output_max=3))
    plan = scheduler.schedule(0.0)
    assert plan.events == (Started(number=2, prompt_tokens=21, cached_tokens=20),)
    assert plan.cache == (KeepPrefix(0, 20),)


def test_another_prompt_copies_the_prefix_and_leaves_the_resident_alone() -> None:
    of = limits()
    scheduler, cache = Scheduler(of), FakeCache(of)
    scheduler.add(make_sequence(1, list(range(20, 40)), output_max=1))
    run(scheduler, cache)
    scheduler.add(make_sequence(2, [*range(20, 30), *range(50, 60)], output_max=1))
    plan = scheduler.schedule(0.0)
    assert plan.cache == (CopyPrefix(0, 1, 10),)
    assert scheduler.residents() == [20, 10]
    assert scheduler.kv_cells == 20, "shared cells count once"
    scheduler.commit(plan, cache.execute(plan), 0.0)
    run(scheduler, cache)
    assert scheduler.kv_cells == 30


def test_a_prompt_waits_for_its_sibling_and_those_behind_it_do_not() -> None:
    of = limits(parallel=3, n_slots=3, n_cells=512, n_ctx=512)
    scheduler, cache = Scheduler(of), FakeCache(of)
    shared = list(range(100, 140))
    scheduler.add(make_sequence(1, [*shared, 50, 51], output_max=2))
    scheduler.add(make_sequence(2, [*shared, 60, 61], output_max=2))
    scheduler.add(make_sequence(3, [70, 71], output_max=1))
    events = step(scheduler, cache)
    assert [event.number for event in events if isinstance(event, Started)] == [1, 3]
    events += run(scheduler, cache)
    (second,) = [event for event in events if isinstance(event, Started) and event.number == 2]
    assert second.cached_tokens == len(shared)
    for number, own in ((1, [50, 51]), (2, [60, 61])):
        assert text_of(number, events) == expected([*shared, *own], 2)


def test_who_waits_for_a_sibling_is_released_when_that_is_preempted() -> None:
    of = limits(parallel=2, n_slots=4, n_cells=512, n_ctx=256)
    scheduler, cache = Scheduler(of), FakeCache(of)
    prompt = [2, 9, 4] * 30
    first, sibling = make_sequence(1, [*prompt, 5], output_max=4), make_sequence(2, [*prompt, 6], output_max=4)
    first.priority = sibling.priority = 1
    scheduler.add(first)
    scheduler.add(sibling)
    events = step(scheduler, cache)
    assert (scheduler.running, scheduler.waiting) == (1, 1)
    for number in (3, 4):
        scheduler.add(make_sequence(number, [number] * 3, output_max=4))
    events += step(scheduler, cache)
    assert scheduler.preemptions == 1
    events += run(scheduler, cache)
    assert text_of(1, events) == expected([*prompt, 5], 4) and text_of(2, events) == expected([*prompt, 6], 4)


def test_who_waits_for_a_sibling_is_released_when_that_ends() -> None:
    of = limits(n_cells=512, n_ctx=512)
    scheduler, cache = Scheduler(of), FakeCache(of)
    shared = list(range(100, 200))
    scheduler.add(make_sequence(1, [*shared, 50], output_max=2))
    scheduler.add(make_sequence(2, [*shared, 60], output_max=2))
    step(scheduler, cache)
    assert (scheduler.running, scheduler.waiting) == (1, 1)
    scheduler.abort(1)
    plan = scheduler.schedule(0.0)
    assert plan.events == (Started(number=2, prompt_tokens=101, cached_tokens=of.n_batch),)


def test_a_state_that_cannot_go_back_is_copied_at_the_border_and_kept_for_later() -> None:
    of = limits(parallel=3, n_slots=6, n_cells=1024, n_ctx=512, reuse="whole")
    scheduler, cache = Scheduler(of), FakeCache(of)
    shared = list(range(100, 145))
    for number in (1, 2):
        scheduler.add(make_sequence(number, [*shared, 50 + number, 60], output_max=2))
    events = run(scheduler, cache)
    scheduler.add(make_sequence(3, [*shared, 53, 60], output_max=2))
    events += run(scheduler, cache)
    cached = {event.number: event.cached_tokens for event in events if isinstance(event, Started)}
    assert cached == {1: 0, 2: 45, 3: 45}
    for number in (1, 2, 3):
        assert text_of(number, events) == expected([*shared, 50 + number, 60], 2)


def test_idle_residents_give_way_before_anything_is_preempted() -> None:
    of = limits(n_cells=40, n_ctx=40)
    scheduler, cache = Scheduler(of), FakeCache(of)
    scheduler.add(make_sequence(1, [1] * 20, output_max=1))
    run(scheduler, cache)
    scheduler.add(make_sequence(2, [2] * 30, output_max=5))
    events = run(scheduler, cache)
    assert text_of(2, events) == expected([2] * 30, 5)


def test_the_youngest_is_preempted_and_goes_on_where_it_was() -> None:
    of = limits(n_cells=70, n_ctx=70)
    scheduler, cache = Scheduler(of), FakeCache(of)
    prompts = {1: long_winded(50, first=1), 2: long_winded(50, first=2)}
    for number, prompt in prompts.items():
        scheduler.add(make_sequence(number, prompt, output_max=50))
    events: list[Event] = []
    preempted = False
    while scheduler.has_work:
        events += step(scheduler, cache)
        scheduler.check_integrity()
        preempted = preempted or (bool(text_of(2, events)) and scheduler.waiting == 1)
    assert preempted
    for number, prompt in prompts.items():
        assert text_of(number, events) == expected(prompt, 50)
        assert sum(isinstance(event, Started) and event.number == number for event in events) == 1


def test_a_sequence_that_cannot_grow_beside_others_waits() -> None:
    of = limits(n_cells=64)
    scheduler, cache = Scheduler(of), FakeCache(of)
    scheduler.add(make_sequence(1, [1] * 20, output_max=20))
    scheduler.add(make_sequence(2, [2] * 20, output_max=20))
    step(scheduler, cache)
    assert (scheduler.running, scheduler.waiting) == (1, 1)


def test_abort_while_waiting_running_and_unknown() -> None:
    of = limits(parallel=1, n_slots=1)
    scheduler, cache = Scheduler(of), FakeCache(of)
    scheduler.add(make_sequence(1, [1] * 40))
    scheduler.add(make_sequence(2, [2]))
    step(scheduler, cache)
    assert scheduler.abort(2) == Failed(number=2, code=None, message="aborted")
    assert scheduler.abort(1) == Failed(number=1, code=None, message="aborted")
    assert scheduler.abort(1) is None
    assert not scheduler.has_work
    assert scheduler.kv_cells == of.n_batch


def of_principal(number: int, principal: str, *, priority: int = 0, output_max: int = 40) -> Sequence:
    sequence = make_sequence(number, long_winded(40, first=number), output_max=output_max)
    sequence.principal, sequence.priority = principal, priority
    return sequence


def running_of(scheduler: Scheduler, cache: FakeCache, steps: int) -> list[int]:
    """The numbers that still run after so many steps."""
    for _ in range(steps):
        plan = scheduler.schedule(0.0)
        scheduler.commit(plan, cache.execute(plan), 0.0)
    return [item.sequence.number for item in scheduler.schedule(0.0).items]


def test_a_principal_with_more_than_its_share_gives_up_a_slot_and_no_more() -> None:
    of = limits(parallel=4, n_slots=8, n_cells=512)
    scheduler, cache = Scheduler(of), FakeCache(of)
    for number in (1, 2, 3, 4, 5, 6):
        scheduler.add(of_principal(number, "flooder"))
    assert running_of(scheduler, cache, 4) == [1, 2, 3, 4]
    for number in (7, 8, 9):
        scheduler.add(of_principal(number, "other"))
    running = set(running_of(scheduler, cache, 20))
    assert running == {1, 2, 7, 8}, "two each: nobody has more than the other"
    assert scheduler.preemptions == 2
    events = run(scheduler, cache)
    assert all(text_of(number, events) for number in (3, 4, 5, 6, 9))


def test_a_flow_with_more_than_its_share_of_its_principal_gives_up_a_slot_and_no_more() -> None:
    of = limits(parallel=4, n_slots=8, n_cells=512)
    scheduler, cache = Scheduler(of), FakeCache(of)

    def add(number: int, flow: str) -> None:
        sequence = of_principal(number, "dify")
        sequence.flow = flow
        scheduler.add(sequence)

    for number in (1, 2, 3, 4, 5, 6):
        add(number, "busy user")
    assert running_of(scheduler, cache, 4) == [1, 2, 3, 4]
    add(7, "another")
    add(8, "another")
    assert set(running_of(scheduler, cache, 20)) == {1, 2, 7, 8}, "two each: nobody has more than the other"
    for number in range(9, 20):
        add(number, f"user {number}")
    running = set(running_of(scheduler, cache, 9))
    assert len(running & set(range(9, 20))) == 2 and len(running & {1, 2}) == 1 and len(running & {7, 8}) == 1
    assert scheduler.preemptions == 4, "with one each, nobody is asked any more"
    events = run(scheduler, cache)
    assert all(text_of(number, events) for number in range(9, 20))


def test_a_preempted_sequence_goes_on_from_its_cells() -> None:
    of = limits(parallel=1, n_slots=2, n_cells=512)
    scheduler, cache = Scheduler(of), FakeCache(of)
    prompt = long_winded(40, first=1)
    scheduler.add(of_principal(1, "a", priority=5))
    events = [event for _ in range(10) for event in step(scheduler, cache)]
    scheduler.add(of_principal(2, "b", priority=1, output_max=3))
    plan = scheduler.schedule(0.0)
    assert [item.sequence.number for item in plan.items] == [2]
    events += told([*plan.events, *scheduler.commit(plan, cache.execute(plan), 0.0)])
    computed = scheduler.residents()[0]
    while scheduler.waiting:
        events += step(scheduler, cache)
    assert scheduler.residents()[0] == computed + 1, "one step on, nothing computed again"
    events += run(scheduler, cache)
    assert text_of(1, events) == expected(prompt, 40)


def test_what_was_not_computed_of_a_preempted_prompt_is_not_charged() -> None:
    of = limits(parallel=1, n_slots=4, n_cells=512, n_ctx=128, n_batch=8)
    scheduler, cache = Scheduler(of), FakeCache(of)

    def add(number: int, principal: str, length: int, priority: int) -> None:
        sequence = make_sequence(number, [number] * length, output_max=1)
        sequence.principal, sequence.priority = principal, priority
        scheduler.add(sequence)

    add(1, "c", 20, priority=2)
    add(2, "c", 3, priority=2)
    add(3, "a", 60, priority=1)
    events = step(scheduler, cache)
    add(4, "b", 3, priority=0)
    add(5, "a", 3, priority=2)
    events += step(scheduler, cache)
    assert scheduler.preemptions == 1
    scheduler.abort(3)
    events += run(scheduler, cache)
    assert [event.number for event in events if isinstance(event, Started)] == [3, 4, 1, 5, 2]


@pytest.mark.parametrize("parallel", [2, 16])
def test_short_prompts_do_not_starve_a_long_one_of_their_principal(parallel: int) -> None:
    of = limits(parallel=parallel, n_slots=32, n_cells=16384, n_ctx=4096, n_batch=256, n_ubatch=256)
    scheduler, cache = Scheduler(of), FakeCache(of)
    scheduler.add(make_sequence(1, [1] * 2000, output_max=1))
    its_steps = 0
    for number in range(2, 42 + parallel):
        scheduler.add(make_sequence(number, [number % 20 + 2, number] * 35, output_max=1))
        if number < parallel:
            continue
        plan = scheduler.schedule(0.0)
        its_steps += any(item.sequence.number == 1 for item in plan.items)
        scheduler.commit(plan, cache.execute(plan), 0.0)
    assert 2 <= its_steps <= 8


def test_a_prompt_that_others_computed_meanwhile_is_not_charged() -> None:
    of = limits(parallel=1, n_slots=4, n_cells=512, n_ctx=128, n_batch=8)
    scheduler, cache = Scheduler(of), FakeCache(of)
    preempted = make_sequence(1, [7] * 60, output_max=1)
    preempted.priority = 1
    scheduler.add(preempted)
    step(scheduler, cache)
    assert preempted.charged == 60
    scheduler.add(make_sequence(2, [7] * 50, output_max=1))
    events: list[Event] = []
    while not any(isinstance(event, Finished) for event in events):
        events += step(scheduler, cache)
    step(scheduler, cache)
    assert scheduler.preemptions == 1
    assert preempted.charged <= 60 - 50


def test_cached_tokens_are_not_charged() -> None:
    of = limits(parallel=1, n_slots=4, n_cells=512, n_ctx=128)
    scheduler, cache = Scheduler(of), FakeCache(of)
    scheduler.add(make_sequence(1, [7] * 40, output_max=1))
    run(scheduler, cache)
    for number, principal, tokens in ((2, "a", [7] * 41), (3, "b", [8] * 10), (4, "a", [9] * 3), (5, "b", [6] * 3)):
        sequence = make_sequence(number, tokens, output_max=1)
        sequence.principal = principal
        scheduler.add(sequence)
    starts = [event.number for event in run(scheduler, cache) if isinstance(event, Started)]
    assert starts == [2, 3, 4, 5], "a's long prompt was nearly free, so its next turn comes before b's"


def test_a_higher_class_and_a_principal_below_its_share_take_cells_too() -> None:
    of = limits(parallel=4, n_slots=8, n_cells=96, n_ctx=64)
    for priority, principal in ((0, "a"), (5, "b")):
        scheduler, cache = Scheduler(of), FakeCache(of)
        for number in (1, 2):
            sequence = make_sequence(number, [number] * 30, output_max=8)
            sequence.principal, sequence.priority = "a", 5
            scheduler.add(sequence)
        events = [event for _ in range(4) for event in step(scheduler, cache)]
        assert (scheduler.running, scheduler.waiting) == (2, 0)
        newcomer = make_sequence(3, [3] * 30, output_max=8)
        newcomer.principal, newcomer.priority = principal, priority
        scheduler.add(newcomer)
        events += step(scheduler, cache)
        assert (scheduler.running, scheduler.waiting, scheduler.preemptions) == (2, 1, 1)
        events += run(scheduler, cache)
        assert [text_of(number, events) for number in (1, 2, 3)] == [expected([n] * 30, 8) for n in (1, 2, 3)]


def test_a_higher_class_waits_for_a_lower_one() -> None:
    of = limits(parallel=1, n_slots=2)
    scheduler, cache = Scheduler(of), FakeCache(of)
    scheduler.add(of_principal(1, "a", priority=1))
    step(scheduler, cache)
    scheduler.add(of_principal(2, "b", priority=5))
    assert running_of(scheduler, cache, 3) == [1]


def test_deadlines_end_what_waits_and_what_runs() -> None:
    of = limits(parallel=1, n_slots=1)
    scheduler, cache = Scheduler(of), FakeCache(of)
    patient, late = of_principal(1, "a"), of_principal(2, "a")
    patient.deadline, late.deadline = 50.0, 5.0
    scheduler.add(patient)
    scheduler.add(late)
    events = step(scheduler, cache, 0.0) + step(scheduler, cache, 1.0)
    (failed,) = [event for event in step(scheduler, cache, 5.0) if isinstance(event, Failed)]
    assert (failed.number, failed.code) == (2, "deadline_exceeded")
    events += step(scheduler, cache, 50.0)
    assert isinstance(events[-1], Finished) and (events[-1].number, events[-1].reason) == (1, "length")
    assert not scheduler.has_work


def test_no_room_drops_residents_then_preempts_then_fails() -> None:
    of = limits(n_slots=3)
    scheduler, cache = Scheduler(of), FakeCache(of)
    scheduler.add(make_sequence(1, [9] * 5, output_max=1))
    run(scheduler, cache)
    for number in (2, 3):
        scheduler.add(make_sequence(number, [number] * 4, output_max=4))
    plan = scheduler.schedule(0.0)
    cache.change(plan)
    assert scheduler.no_room() == []
    assert scheduler.kv_cells == 0
    assert scheduler.no_room() == []
    assert (scheduler.running, scheduler.waiting) == (1, 1)
    (failed,) = scheduler.no_room()
    assert isinstance(failed, Failed) and (failed.number, failed.code) == (2, "kv_cache_full")
    events = run(scheduler, cache)
    assert text_of(3, events) == expected([3] * 4, 4)


def test_a_lost_prefix_is_computed_again() -> None:
    of = limits()
    scheduler, cache = Scheduler(of), FakeCache(of)
    scheduler.add(make_sequence(1, [3, 5, 7, 9], output_max=3))
    run(scheduler, cache)
    scheduler.add(make_sequence(2, [3, 5, 7, 8], output_max=3))
    plan = scheduler.schedule(0.0)
    assert plan.cache
    cache.slots[plan.cache[0].slot].clear()
    scheduler.reuse_lost([plan.cache[0].slot])
    events = run(scheduler, cache)
    assert text_of(2, events) == expected([3, 5, 7, 8], 3)
    (finished,) = [event for event in events if isinstance(event, Finished)]
    assert finished.usage.cached_tokens == 0


def test_a_stop_string_ends_the_answer() -> None:
    of = limits()
    answer = expected([3, 5, 7], 4)
    scheduler = Scheduler(of)
    scheduler.add(make_sequence(1, [3, 5, 7], output_max=4, stop=(answer[2:6],)))
    events = run(scheduler, FakeCache(of))
    assert text_of(1, events) == answer[:2]
    assert isinstance(events[-1], Finished) and events[-1].reason == "stop"


prompts = st.lists(st.integers(1, 4), min_size=1, max_size=30)
kinds = st.sampled_from(
    [
        limits(parallel=3, n_slots=3, n_cells=80, n_batch=8, n_ubatch=4),
        limits(parallel=3, n_slots=6, n_cells=80, n_batch=8, n_ubatch=4),
        limits(parallel=3, n_slots=3, n_cells=192, n_batch=8, n_ubatch=4, split=True),
        limits(parallel=3, n_slots=6, n_cells=100, n_batch=8, n_ubatch=4, reuse="whole"),
        limits(parallel=3, n_slots=3, n_cells=192, n_batch=8, n_ubatch=4, reuse="whole", split=True),
        limits(parallel=3, n_slots=6, n_cells=80, n_batch=8, n_ubatch=4, saves=False),
        limits(parallel=1, n_slots=1, n_cells=64, n_batch=8, n_ubatch=4),
        limits(parallel=3, n_slots=6, n_cells=80, n_batch=8, n_ubatch=4, scored_max=3),
    ]
)


@settings(max_examples=at_most(60))
@given(st.lists(st.tuples(prompts, st.integers(1, 30)), min_size=1, max_size=12), kinds)
def test_every_answer_is_what_it_would_be_alone(requests: list[tuple[list[int], int]], of: Limits) -> None:
    scheduler = Scheduler(of)
    for number, (prompt, output_max) in enumerate(requests, 1):
        scheduler.add(make_sequence(number, prompt, output_max=output_max))
    events = run(scheduler, FakeCache(of))
    for number, (prompt, output_max) in enumerate(requests, 1):
        assert text_of(number, events) == expected(prompt, output_max)


class RandomLoad(RuleBasedStateMachine):
    """Adds, aborts, deadlines, steps and failing steps in any order, on any kind of cache."""

    @initialize(of=kinds)
    def start(self, of: Limits) -> None:
        self.limits = of
        self.scheduler = Scheduler(of)
        self.cache = FakeCache(of)
        self.now = 0.0
        self.prompts: dict[int, tuple[list[int], int]] = {}
        self.texts: dict[int, str] = {}
        self.scored: dict[int, list[int]] = {}
        self.ended: dict[int, Finished | Failed] = {}
        self.impatient: set[int] = set()

    def take(self, events: list[Event]) -> None:
        for event in events:
            assert event.number not in self.ended, "an event after the end"
            if isinstance(event, Delta):
                self.texts[event.number] += event.text
            elif isinstance(event, Scored):
                assert not self.texts[event.number], "the prompt comes first"
                self.scored[event.number] += [each.token for each in event.logprobs]
            elif isinstance(event, Finished | Failed):
                self.ended[event.number] = event

    @rule(
        prompt=prompts,
        output_max=st.integers(0, 30),
        scores=st.booleans(),
        principal=st.sampled_from("ab"),
        flow=st.sampled_from("xy"),
        priority=st.integers(0, 1),
        seconds=st.sampled_from([5.0, 1000.0]),
    )
    def add(
        self,
        prompt: list[int],
        output_max: int,
        scores: bool,
        principal: str,
        flow: str,
        priority: int,
        seconds: float,
    ) -> None:
        number = len(self.prompts) + 1
        self.prompts[number], self.texts[number] = (prompt, output_max), ""
        sequence = make_sequence(number, prompt, output_max=output_max)
        if scores:
            sequence.logprobs, self.scored[number] = LogprobParams(prompt_max=64), []
        sequence.principal = sequence.cache_domain = principal
        sequence.weight = {"a": 1.0, "b": 2.5}[principal]
        sequence.flow, sequence.priority, sequence.deadline = flow, priority, self.now + seconds
        if seconds < 100:
            self.impatient.add(number)
        self.scheduler.add(sequence)

    @rule()
    def time_passes(self) -> None:
        self.now += 1.0

    @precondition(lambda self: self.prompts)
    @rule(data=st.data())
    def abort(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.prompts)))
        failed = self.scheduler.abort(number)
        assert (failed is None) == (number in self.ended)
        self.take([] if failed is None else [failed])

    @precondition(lambda self: self.scheduler.has_work)
    @rule(device_seconds=st.sampled_from([0.0, 0.001, 0.05, 5.0]))
    def step(self, device_seconds: float = 0.0) -> None:
        self.take(step(self.scheduler, self.cache, self.now, device_seconds))

    @precondition(lambda self: self.scheduler.running > 1)
    @rule()
    def step_without_room(self) -> None:
        plan = self.scheduler.schedule(self.now)
        self.cache.change(plan)
        self.take(told([*plan.events, *self.scheduler.no_room()]))

    @precondition(lambda self: self.scheduler.has_work)
    @rule()
    def step_that_loses_a_prefix(self) -> None:
        plan = self.scheduler.schedule(self.now)
        self.cache.change(plan)
        lost = [op.slot for op in plan.cache if not isinstance(op, SaveState)]
        for slot in lost:
            self.cache.slots[slot].clear()
        self.scheduler.reuse_lost(lost)
        self.take(told(plan.events))

    @invariant()
    def books_are_right(self) -> None:
        self.scheduler.check_integrity()
        assert self.scheduler.running + self.scheduler.waiting == len(self.prompts) - len(self.ended)

    def teardown(self) -> None:
        while self.scheduler.has_work:
            self.step()
        assert self.ended.keys() == self.prompts.keys(), "every request ends"
        assert self.scheduler.residents() == [len(cells) for cells in self.cache.slots.values()]
        for number, (prompt, output_max) in self.prompts.items():
            if isinstance(self.ended[number], Finished) and number not in self.impatient:
                assert self.texts[number] == expected(prompt, output_max)
            else:
                assert expected(prompt, output_max).startswith(self.texts[number])
            scored = self.scored.get(number, prompt)
            whole = number not in self.impatient and isinstance(self.ended[number], Finished)
            assert scored == prompt[: len(prompt) if whole else len(scored)]


TestRandomLoad = RandomLoad.TestCase
TestRandomLoad.settings = settings(max_examples=at_most(60), stateful_step_count=40)


def test_requests_start_in_order_of_arrival() -> None:
    scheduler = Scheduler(limits())
    sequences: list[Sequence] = [make_sequence(number, [number]) for number in (1, 2, 3)]
    for sequence in sequences:
        scheduler.add(sequence)
    assert [event.number for event in told(scheduler.schedule(0.0).events)] == [1, 2]


def scoring(number: int, tokens: list[int], *, output_max: int = 0) -> Sequence:
    sequence = make_sequence(number, tokens, output_max=output_max)
    sequence.logprobs = LogprobParams(prompt_max=64)
    return sequence


def test_a_prompt_that_is_scored_comes_in_pieces_and_ends_without_an_answer() -> None:
    of = limits(scored_max=4)
    scheduler = Scheduler(of)
    prompt = [9, 8, 7, 6, 5, 4]
    scheduler.add(scoring(1, prompt))
    events = run(scheduler, FakeCache(of))
    assert [[each.token for each in event.logprobs] for event in events if isinstance(event, Scored)] == [
        [9, 8, 7, 6, 5],
        [4],
    ]
    assert isinstance(events[-1], Finished)
    assert (events[-1].reason, events[-1].usage.completion_tokens) == ("length", 0)


def test_what_is_scored_is_computed_and_not_found() -> None:
    """Nor does it wait for a sibling that computes the same."""
    of = limits(n_cells=128)
    scheduler, cache = Scheduler(of), FakeCache(of)
    prompt = [4] * 40
    scheduler.add(make_sequence(1, prompt, output_max=1))
    scheduler.add(scoring(2, prompt))
    started = [event for event in run(scheduler, cache) if isinstance(event, Started)]
    assert [event.cached_tokens for event in started] == [0, 0]
    scheduler.add(make_sequence(3, prompt, output_max=1))
    assert [event.cached_tokens for event in run(scheduler, cache) if isinstance(event, Started)] == [39]
