"""Which inputs a step computes, and what comes of it."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.pooling.job import PoolingInput, PoolingJob
from appliance.engine.pooling.scheduler import PoolingLimits, PoolingPlan, PoolingScheduler
from appliance.engine.pooling.vector_cache import VectorCache
from appliance.engine.pooling.vectors import Vector
from appliance.wire import Event, Failed, Finished, Pooled, Started

LIMITS = PoolingLimits(n_ctx=64, step_tokens=32, sequences=4)


def job(number: int, *lengths: int, principal: str = "a", **changes: object) -> PoolingJob:
    inputs = tuple(PoolingInput([number] * length) for length in lengths)
    return PoolingJob(number=number, inputs=inputs, arrived=0.0, principal=principal, **changes)  # type: ignore[arg-type]


def scheduler(*jobs: PoolingJob, cache_bytes: int = 0) -> PoolingScheduler:
    made = PoolingScheduler(LIMITS, VectorCache(cache_bytes))
    for each in jobs:
        made.add(each)
    return made


def vectors(plan: PoolingPlan) -> list[Vector | None]:
    return [np.array([1, 0], np.float32) for _ in plan.items]


def step(made: PoolingScheduler, now: float = 1.0) -> tuple[PoolingPlan, list[Event]]:
    plan = made.schedule(now)
    return plan, [*plan.events, *made.commit(plan, vectors(plan), now)]


def numbers(plan: PoolingPlan) -> list[int]:
    return [item.job.number for item in plan.items]


def test_a_step_takes_inputs_of_several_requests_until_it_is_full() -> None:
    made = scheduler(job(1, 10), job(2, 10, 10), job(3, 10))
    first, events = step(made)
    assert numbers(first) == [1, 2, 2]
    assert [type(event) for event in events].count(Finished) == 2
    assert numbers(step(made)[0]) == [3]
    assert not made.has_work
    made.check_integrity()


def test_no_more_sequences_than_there_are() -> None:
    assert len(scheduler(job(1, *[1] * 9)).schedule(0).items) == LIMITS.sequences


def test_a_long_input_goes_alone() -> None:
    made = scheduler(job(1, 60), job(2, 1))
    assert [numbers(step(made)[0]) for _ in range(2)] == [[1], [2]]


def test_principals_take_turns_input_by_input() -> None:
    made = scheduler(job(1, *[8] * 20, principal="large"), job(2, 8, principal="small"))
    assert 2 in numbers(step(made)[0])


def test_a_weight_is_a_larger_share() -> None:
    made = scheduler(job(1, *[8] * 40, principal="a", weight=3.0), job(2, *[8] * 40, principal="b"))
    served: Counter[int] = Counter()
    for _ in range(8):
        served.update(numbers(step(made)[0]))
    assert served[1] == 3 * served[2]


def test_lower_priority_waits() -> None:
    made = scheduler(job(1, *[8] * 8, priority=5), job(2, *[8] * 4, principal="b", priority=1))
    assert numbers(step(made)[0]) == [2, 2, 2, 2]


def test_a_request_past_its_deadline_fails_with_what_is_done() -> None:
    made = scheduler(job(1, *[8] * 8, deadline=5.0))
    step(made)
    plan, events = step(made, now=6.0)
    assert not plan.items
    (failed,) = events
    assert isinstance(failed, Failed) and failed.code == "deadline_exceeded" and "4 of 8" in failed.message
    assert not made.has_work


def test_what_is_aborted_leaves() -> None:
    made = scheduler(job(1, *[8] * 8), job(2, 1))
    step(made)
    failed = made.abort(1)
    assert failed is not None and failed.code is None
    assert made.abort(1) is None
    assert numbers(step(made)[0]) == [2]
    assert not made.has_work


def test_no_numbers_fail_the_request_alone() -> None:
    made = scheduler(job(1, 4, 4), job(2, 4))
    plan = made.schedule(0)
    events = made.commit(plan, [None, np.ones(2, np.float32), np.ones(2, np.float32)], 1.0)
    assert [type(event) for event in events] == [Failed, Pooled, Finished]
    assert not made.has_work


def test_what_is_known_needs_no_step() -> None:
    made = scheduler(job(1, 8, cache_domain="x"), cache_bytes=10_000)
    step(made)
    again = job(1, 8, cache_domain="x")
    again.number = 2
    made.add(again)
    plan, events = step(made)
    assert not plan.items
    assert [type(event) for event in events] == [Started, Pooled, Finished]
    assert isinstance(events[-1], Finished) and events[-1].usage.cached_tokens == 8


def test_known_vectors_go_out_some_at_a_time() -> None:
    made = scheduler(job(1, 8), cache_bytes=10_000)
    step(made)
    many = PoolingJob(number=2, inputs=(PoolingInput([1] * 8),) * 2000, arrived=0.0)
    made.add(many)
    assert len(step(made)[1]) < 600
    while made.has_work:
        step(made)
    assert many.done == 2000


jobs = st.lists(
    st.tuples(st.lists(st.integers(1, 64), min_size=1, max_size=6), st.sampled_from("abc"), st.integers(0, 2)),
    min_size=1,
    max_size=12,
)


@given(jobs)
def test_every_request_gets_each_vector_once_and_one_end(
    given_jobs: list[tuple[list[int], str, int]],
) -> None:
    made = scheduler(
        *(
            job(number, *lengths, principal=principal, priority=priority)
            for number, (lengths, principal, priority) in enumerate(given_jobs)
        )
    )
    events: list[Event] = []
    while made.has_work:
        plan, said = step(made)
        assert len(plan.items) == 1 or plan.tokens <= LIMITS.step_tokens
        assert plan.items, "a step that does nothing would never end"
        events += said
    for number, (lengths, _, _) in enumerate(given_jobs):
        own = [event for event in events if event.number == number]
        assert isinstance(own[0], Started) and isinstance(own[-1], Finished)
        assert sorted(event.index for event in own if isinstance(event, Pooled)) == list(range(len(lengths)))
        assert len(own) == len(lengths) + 2
    made.check_integrity()
