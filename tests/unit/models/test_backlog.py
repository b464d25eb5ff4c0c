"""The rules for requests whose worker died."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import RequestError
from appliance.models.backlog import Backlog
from appliance.models.stream import ResponseStream
from appliance.types import Request, TextPrompt, Timings, Usage
from appliance.wire import Delta, Finished, Started

DONE = Finished(
    number=0,
    reason="stop",
    usage=Usage(prompt_tokens=1, completion_tokens=1),
    timings=Timings(queue_seconds=0, prefill_seconds=0, decode_seconds=0),
)


def stream() -> ResponseStream:
    return ResponseStream(Request(id="r", model="m", principal="p", cache_domain="p", prompt=TextPrompt(text="x")))


def started(target: ResponseStream) -> None:
    target.push(Started(number=1, prompt_tokens=1, cached_tokens=0))


def began(target: ResponseStream) -> None:
    target.push(Delta(number=1, text="x", tokens=1))


async def end_of(target: ResponseStream) -> str:
    with pytest.raises(RequestError) as failed:
        while True:
            await target.next()
    return failed.value.code


async def test_each_fate_after_a_crash() -> None:
    backlog = Backlog()
    talking, prefilling, queued, held = (stream() for _ in range(4))
    for target in (talking, prefilling, queued):
        backlog.add(target)
    assert len(backlog.sendable()) == 3
    backlog.add(held)
    started(talking)
    began(talking)
    started(prefilling)
    backlog.crashed("boom")
    assert await end_of(talking) == "engine_crash"
    assert [entry.stream for entry in backlog.sendable()] == [prefilling]
    assert backlog.sendable() == []
    began(prefilling)
    (entry,) = backlog.sendable()
    assert entry.stream is held
    backlog.end(1 + 3, DONE)
    assert [entry.stream for entry in backlog.sendable()] == [queued]


async def test_a_second_crash_ends_a_suspect_and_frees_the_rest() -> None:
    backlog = Backlog()
    poison, innocent = stream(), stream()
    backlog.add(poison)
    backlog.add(innocent)
    backlog.sendable()
    started(poison)
    started(innocent)
    backlog.crashed("one")
    assert [entry.stream for entry in backlog.sendable()] == [poison]
    started(poison)
    backlog.crashed("two")
    assert await end_of(poison) == "engine_crash"
    (entry,) = backlog.sendable()
    assert entry.stream is innocent
    assert not innocent.ended
    backlog.end(entry.number, DONE)
    assert len(backlog) == 0


async def test_who_was_there_at_a_crash_does_not_travel_beside_a_second_try() -> None:
    """The poison may be one that was never started: it kills the thread that reads prompts."""
    backlog = Backlog()
    innocent, poison, fresh = stream(), stream(), stream()
    backlog.add(innocent)
    backlog.add(poison)
    backlog.sendable()
    started(innocent)
    backlog.crashed("boom")
    (entry,) = backlog.sendable()
    assert entry.stream is innocent
    began(innocent)
    backlog.add(fresh)
    assert [e.stream for e in backlog.sendable()] == [fresh]
    backlog.end(entry.number, DONE)
    assert [e.stream for e in backlog.sendable()] == [poison]


async def test_the_next_suspect_waits_for_the_one_before_to_end() -> None:
    backlog = Backlog()
    first, second, fresh = stream(), stream(), stream()
    for target in (first, second):
        backlog.add(target)
    backlog.sendable()
    started(first)
    started(second)
    backlog.crashed("boom")
    (entry,) = backlog.sendable()
    began(first)
    backlog.add(fresh)
    assert [e.stream for e in backlog.sendable()] == [fresh]
    backlog.end(entry.number, DONE)
    assert backlog.sendable() == []
    began(fresh)
    assert [e.stream for e in backlog.sendable()] == [second]


def test_a_queued_request_becomes_a_suspect_at_its_second_crash() -> None:
    backlog = Backlog()
    queued = stream()
    backlog.add(queued)
    for suspect in (False, True):
        (entry,) = backlog.sendable()
        backlog.crashed("boom")
        assert entry.suspect is suspect
    backlog.sendable()
    backlog.crashed("boom")
    assert queued.ended
    assert len(backlog) == 0


def test_dropping() -> None:
    backlog = Backlog()
    held, sent = stream(), stream()
    backlog.add(sent)
    (entry,) = backlog.sendable()
    backlog.add(held)
    assert backlog.drop(held) is None
    assert backlog.drop(sent) == entry.number
    assert backlog.drop(sent) is None
    assert backlog.find(entry.number) is None
    backlog.end(entry.number, DONE)
    assert not sent.ended


@given(st.lists(st.sampled_from(["add", "send", "start", "begin", "end", "crash", "drop"]), max_size=60))
def test_every_request_ends_at_most_once_and_none_is_lost(steps: list[str]) -> None:
    """After any history, crashing often enough leaves nothing outstanding that has not ended or been dropped."""
    backlog = Backlog()
    live: list[ResponseStream] = []
    numbers: dict[int, int] = {}
    for step in steps:
        match step:
            case "add":
                live.append(stream())
                backlog.add(live[-1])
            case "send":
                numbers |= {id(entry.stream): entry.number for entry in backlog.sendable()}
            case "start" | "begin" if live and backlog.find(numbers.get(id(live[-1]), -1)):
                (started if step == "start" else began)(live[-1])
            case "end" if live:
                backlog.end(numbers.get(id(live[0]), -1), DONE)
            case "crash":
                backlog.crashed("boom")
            case "drop" if live:
                backlog.drop(live.pop())
        assert len(backlog) == sum(not target.ended for target in live)
    for _ in range(4 * len(live) + 4):
        backlog.sendable()
        backlog.crashed("boom")
    assert len(backlog) == 0
    assert all(target.ended for target in live)
