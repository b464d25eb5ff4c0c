"""appliance.models.turns"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from appliance.errors import ErrorCode, RequestError
from appliance.models.turns import Turns
from appliance.tasks import TaskOwner


class Model:
    """One with so much room, and those who wait for it."""

    def __init__(self, room: int = 0) -> None:
        self.turns = Turns(waiters_max=20, waiters_per_principal_max=10)
        self.tasks = TaskOwner("test")
        self.room = room
        self.refusal: ErrorCode = "too_many_requests"
        self.served: list[str] = []

    def ask(self) -> None:
        if self.room <= 0:
            raise RequestError(self.refusal, "no room", retry_after=1)

    def wait(self, name: str, principal: str = "app", seconds: float = 60) -> asyncio.Task[None]:
        async def queue() -> None:
            await self.turns.wait("m", principal, seconds, self.ask)
            self.room -= 1
            self.served.append(name)

        return self.tasks.spawn(queue(), name=name)

    async def free(self, room: int = 1) -> None:
        self.room += room
        self.turns.wake("m")
        await settle()


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
async def model() -> AsyncIterator[Model]:
    model = Model()
    yield model
    await model.tasks.close()
    assert model.turns.waiting == 0
    assert not model.turns._lines


async def test_room_is_given_at_once(model: Model) -> None:
    model.room = 1
    await model.wait("a")
    assert model.served == ["a"]


async def test_who_waits_gets_in_by_the_order_of_arrival_and_never_too_many(model: Model) -> None:
    for name in "abcd":
        model.wait(name)
    await settle()
    assert model.turns.waiting == 4
    await model.free()
    assert model.served == ["a"]
    await model.free(2)
    assert model.served == ["a", "b", "c"]
    await model.free()


async def test_who_comes_later_waits_behind_those_who_wait(model: Model) -> None:
    model.wait("a")
    await settle()
    model.room = 2
    model.wait("b")
    await settle()
    assert model.served == []
    await model.free(0)
    assert model.served == ["a", "b"]


async def test_principals_take_turns(model: Model) -> None:
    for name, principal in (("a", "p"), ("b", "p"), ("c", "q"), ("d", "q")):
        model.wait(name, principal)
    await settle()
    for _ in range(4):
        await model.free()
    assert model.served == ["a", "c", "b", "d"]


async def test_time_ends_a_wait_with_the_refusal(model: Model) -> None:
    first, second = model.wait("a"), model.wait("b", seconds=0.02)
    with pytest.raises(RequestError) as caught:
        await second
    assert (caught.value.code, caught.value.retry_after) == ("too_many_requests", 1)
    await model.free()
    await first


async def test_a_cancelled_one_leaves_its_turn_to_the_next(model: Model) -> None:
    first, second = model.wait("a"), model.wait("b")
    await settle()
    first.cancel()
    await settle()
    await model.free()
    await second
    assert model.served == ["b"]


async def test_what_does_not_pass_is_not_waited_for(model: Model) -> None:
    model.refusal = "shutting_down"
    with pytest.raises(RequestError, match="no room"):
        await model.wait("a")


async def test_what_no_longer_passes_ends_the_wait(model: Model) -> None:
    waiting = [model.wait(name) for name in "ab"]
    await settle()
    model.refusal = "shutting_down"
    model.turns.wake_all()
    for one in waiting:
        with pytest.raises(RequestError, match="no room"):
            await one


async def test_there_is_room_for_so_many_who_wait(model: Model) -> None:
    for number in range(10):
        model.wait(str(number))
    await settle()
    with pytest.raises(RequestError):
        await model.wait("one more")
    for number in range(10):
        model.wait(str(number), "other")
    await settle()
    with pytest.raises(RequestError):
        await model.wait("one more", "third")
    assert model.turns.waiting == 20
