"""Whose turn it is."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.engine.fair_queue import FairQueue
from appliance.engine.sequence import Sequence
from tests.examples import at_most
from tests.unit.engine.making import make_sequence


def sequence(number: int, principal: str = "a", flow: str = "", priority: int = 0, weight: float = 1.0) -> Sequence:
    made = make_sequence(number, [1])
    made.principal, made.flow, made.priority, made.weight = principal, flow, priority, weight
    return made


def order(queue: FairQueue[Sequence]) -> list[int]:
    return [each.number for each in queue.in_order()]


def serve(queue: FairQueue[Sequence], cost: float = 10.0) -> Sequence:
    """The next one runs and ends."""
    first = next(queue.in_order())
    queue.take(first)
    queue.charge(first, cost)
    queue.leave(first)
    return first


def test_one_flow_is_served_in_order_of_arrival() -> None:
    queue = FairQueue[Sequence]()
    for number in (1, 2, 3):
        queue.arrive(sequence(number))
    assert order(queue) == [1, 2, 3]


def test_principals_take_turns_however_many_requests_one_sends() -> None:
    queue = FairQueue[Sequence]()
    for number in range(8):
        queue.arrive(sequence(number, "flooder"))
    for number in (100, 101):
        queue.arrive(sequence(number, "other"))
    assert [serve(queue).principal for _ in range(4)] == ["flooder", "other", "flooder", "other"]


def test_flows_of_one_principal_take_turns() -> None:
    queue = FairQueue[Sequence]()
    for number in range(4):
        queue.arrive(sequence(number, flow="batch"))
    queue.arrive(sequence(10, flow="chat"))
    assert [serve(queue).flow for _ in range(3)] == ["batch", "chat", "batch"]


def test_a_lower_class_goes_first_whatever_was_served() -> None:
    queue = FairQueue[Sequence]()
    queue.arrive(sequence(1, "a", priority=5))
    queue.arrive(sequence(2, "b", priority=1))
    queue.charge(sequence(2, "b"), 1000)
    assert order(queue) == [2, 1]


def test_twice_the_weight_is_twice_the_service() -> None:
    queue = FairQueue[Sequence]()
    for number in range(30):
        queue.arrive(sequence(number, "heavy", weight=2.0))
        queue.arrive(sequence(100 + number, "light"))
    served = [serve(queue).principal for _ in range(30)]
    assert 19 <= served.count("heavy") <= 21


def test_who_comes_back_gets_no_credit_for_the_pause_and_keeps_the_debt() -> None:
    queue = FairQueue[Sequence]()
    queue.arrive(sequence(1, "early"))
    serve(queue, 100.0)
    queue.arrive(sequence(2, "late"))
    assert queue.served("late") == 100.0, "nobody is active: it starts where the last one left"
    queue.charge(sequence(2, "late"), 50.0)
    queue.arrive(sequence(3, "early"))
    assert queue.served("early") == 150.0
    queue.charge(sequence(3, "early"), 500.0)
    for number, name in ((2, "late"), (3, "early")):
        gone = queue.find(number)
        assert gone is not None
        queue.take(gone)
        if name == "early":
            queue.leave(gone)
    queue.arrive(sequence(4, "early"))
    assert queue.served("early") == 650.0, "a pause pays off no debt"


def test_who_was_preempted_goes_first_in_its_flow() -> None:
    queue = FairQueue[Sequence]()
    first, second = sequence(1), sequence(2)
    queue.arrive(first)
    queue.arrive(second)
    queue.take(first)
    queue.put_back(first)
    assert order(queue) == [1, 2]
    assert queue.find(1) is first and queue.find(9) is None


@settings(max_examples=at_most(50))
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 200)), min_size=30, max_size=60))
def test_backlogged_principals_are_served_alike(arrivals: list[tuple[str, int]]) -> None:
    """The bound of the paper: two that always wait differ by no more than the dearest requests."""
    queue = FairQueue[Sequence]()
    costs = {}
    for number, (principal, cost) in enumerate(arrivals):
        queue.arrive(sequence(number, principal))
        costs[number] = float(cost)
    served: dict[str, float] = dict.fromkeys("abc", 0.0)
    waiting = {name: sum(principal == name for principal, _ in arrivals) for name in "abc"}
    while all(waiting.values()):
        first = next(queue.in_order())
        served[first.principal] += costs[first.number]
        waiting[first.principal] -= 1
        queue.take(first)
        queue.charge(first, costs[first.number])
        queue.leave(first)
        if all(waiting.values()):
            assert max(served.values()) - min(served.values()) <= 2 * max(costs.values())
