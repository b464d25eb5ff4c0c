"""Doing something once, however often it is asked for and whoever stops waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from appliance.admin.idempotency import KEY_CHARS_MAX, IdempotentAnswers, KeptAnswer
from appliance.errors import ChangeRefused
from appliance.tasks import TaskOwner

ENTRIES_MAX = 20
Begin = Callable[[Coroutine[Any, Any, Any]], Coroutine[Any, Any, "asyncio.Task[Any]"]]


class Act:
    """Work that takes until it is let go, and counts how often it was begun and done."""

    def __init__(self) -> None:
        self.begun = self.done = 0
        self.go = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self) -> KeptAnswer:
        self.begun += 1
        await self.go.wait()
        if self.error is not None:
            raise self.error
        self.done += 1
        return KeptAnswer(200, b"%d" % self.done, self.done)


@pytest.fixture(autouse=True)
def few_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.admin.idempotency.ENTRIES_MAX", ENTRIES_MAX)


@pytest.fixture
async def begin() -> AsyncIterator[Begin]:
    """Runs something as far as it comes by itself."""
    owner = TaskOwner("test")

    async def begin(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = owner.spawn(work, name="caller")
        for _ in range(5):
            await asyncio.sleep(0)
        return task

    yield begin
    await owner.close()


async def test_a_repetition_gets_the_first_answer() -> None:
    answers, act = IdempotentAnswers(), Act()
    act.go.set()
    first = await answers.once("anna", "k", "digest", act)
    assert await answers.once("anna", "k", "digest", act) is first
    assert act.done == 1


async def test_a_repetition_waits_for_the_act_under_way(begin: Begin) -> None:
    answers, act = IdempotentAnswers(), Act()
    tasks = [await begin(answers.once("anna", "k", "digest", act)) for _ in range(5)]
    assert act.begun == 1
    assert not any(task.done() for task in tasks)
    act.go.set()
    assert {(await task).body for task in tasks} == {b"1"}
    assert act.done == 1


async def test_who_goes_away_loses_the_answer_and_not_the_act(begin: Begin) -> None:
    answers, act = IdempotentAnswers(), Act()
    first = await begin(answers.once("anna", "k", "digest", act))
    second = await begin(answers.once("anna", "k", "digest", act))
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert not second.done()
    act.go.set()
    assert (await second).body == b"1"
    assert (act.begun, act.done) == (1, 1)


async def test_an_act_nobody_waits_for_is_done_and_its_answer_kept(begin: Begin) -> None:
    answers, act = IdempotentAnswers(), Act()
    only = await begin(answers.once("anna", "k", "digest", act))
    only.cancel()
    with pytest.raises(asyncio.CancelledError):
        await only
    act.go.set()
    assert (await answers.once("anna", "k", "digest", act)).body == b"1"
    assert (act.begun, act.done) == (1, 1)


async def test_a_waiter_that_goes_away_disturbs_nobody(begin: Begin) -> None:
    answers, act = IdempotentAnswers(), Act()
    first = await begin(answers.once("anna", "k", "digest", act))
    second = await begin(answers.once("anna", "k", "digest", act))
    second.cancel()
    act.go.set()
    assert (await first).body == b"1"


async def test_failure_is_told_to_all_who_wait_and_then_forgotten(begin: Begin) -> None:
    answers, act = IdempotentAnswers(), Act()
    act.error = ChangeRefused("conflict", "not now")
    tasks = [await begin(answers.once("anna", "k", "digest", act)) for _ in range(2)]
    act.go.set()
    for task in tasks:
        with pytest.raises(ChangeRefused, match="not now"):
            await task
    act.error = None
    assert (await answers.once("anna", "k", "digest", act)).body == b"1"
    assert act.begun == 2


async def test_a_failure_nobody_waits_for_is_no_unretrieved_exception(begin: Begin) -> None:
    answers, act = IdempotentAnswers(), Act()
    act.error = ChangeRefused("conflict", "not now")
    only = await begin(answers.once("anna", "k", "digest", act))
    only.cancel()
    act.go.set()
    await begin(asyncio.sleep(0))
    act.error = None
    assert (await answers.once("anna", "k", "digest", act)).body == b"1"


async def test_one_key_stands_for_one_request() -> None:
    answers, act = IdempotentAnswers(), Act()
    act.go.set()
    await answers.once("anna", "k", "digest", act)
    with pytest.raises(ChangeRefused, match="used for another request"):
        await answers.once("anna", "k", "another", act)
    assert act.begun == 1


async def test_keys_belong_to_their_administrator() -> None:
    answers, act = IdempotentAnswers(), Act()
    act.go.set()
    assert (await answers.once("anna", "k", "digest", act)).body == b"1"
    assert (await answers.once("ben", "k", "digest", act)).body == b"2"


async def test_a_key_has_a_limit() -> None:
    answers, act = IdempotentAnswers(), Act()
    act.go.set()
    await answers.once("anna", "k" * KEY_CHARS_MAX, "digest", act)
    with pytest.raises(ChangeRefused, match="at most 128"):
        await answers.once("anna", "k" * (KEY_CHARS_MAX + 1), "digest", act)


async def test_the_oldest_answers_are_forgotten_and_never_what_is_under_way(begin: Begin) -> None:
    answers, slow, quick = IdempotentAnswers(), Act(), Act()
    quick.go.set()
    waiting = await begin(answers.once("anna", "slow", "digest", slow))
    for number in range(ENTRIES_MAX + 5):
        await answers.once("anna", f"{number}", "digest", quick)
    repeated = await begin(answers.once("anna", "slow", "digest", slow))
    slow.go.set()
    assert await repeated is await waiting
    assert slow.begun == 1
    await answers.once("anna", "0", "digest", quick)
    assert quick.begun == ENTRIES_MAX + 6, "the oldest answer was kept"
    await answers.once("anna", f"{ENTRIES_MAX + 4}", "digest", quick)
    assert quick.begun == ENTRIES_MAX + 6, "the newest answer was forgotten"


async def test_an_answer_is_forgotten_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.admin.idempotency.KEPT_SECONDS", 0.01)
    answers, act = IdempotentAnswers(), Act()
    act.go.set()
    await answers.once("anna", "k", "digest", act)
    await asyncio.sleep(0.03)
    assert (await answers.once("anna", "k", "another", act)).body == b"2", "neither the answer nor the key is known"


async def test_a_newer_act_of_the_same_name_is_not_forgotten_in_the_place_of_an_older(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers, act = IdempotentAnswers(), Act()
    act.go.set()
    monkeypatch.setattr("appliance.admin.idempotency.KEPT_SECONDS", 0.02)
    await answers.once("anna", "k", "digest", act)
    monkeypatch.setattr("appliance.admin.idempotency.KEPT_SECONDS", 60.0)
    for number in range(ENTRIES_MAX):
        await answers.once("anna", f"{number}", "digest", act)
    newer = await answers.once("anna", "k", "digest", act)
    await asyncio.sleep(0.04)
    assert await answers.once("anna", "k", "digest", act) is newer


async def test_too_many_acts_at_once_are_refused(begin: Begin) -> None:
    answers, act = IdempotentAnswers(), Act()
    tasks = [await begin(answers.once("anna", f"{number}", "digest", act)) for number in range(ENTRIES_MAX)]
    with pytest.raises(ChangeRefused, match="under way"):
        await answers.once("anna", "one more", "digest", act)
    act.go.set()
    await asyncio.gather(*tasks)


async def test_closing_waits_for_what_is_under_way(begin: Begin) -> None:
    answers, act = IdempotentAnswers(), Act()
    waiting = await begin(answers.once("anna", "k", "digest", act))
    closing = await begin(answers.close())
    act.go.set()
    await closing
    assert (await waiting).body == b"1"
    assert act.done == 1


async def test_closing_does_not_wait_for_ever(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.admin.idempotency._CLOSE_SECONDS_MAX", 0.01)
    answers, act = IdempotentAnswers(), Act()
    waiting = await begin(answers.once("anna", "k", "digest", act))
    await answers.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (act.begun, act.done) == (1, 0)
