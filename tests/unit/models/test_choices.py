"""Several choices of one request as one answer."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import RequestError
from appliance.models.choices import ChoiceStreams, choices_of
from appliance.models.stream import AnswerEnd, ChoiceEnd, ResponseStream, Text
from appliance.types import FinishReason, Request, SamplingParams, TextPrompt, Timings, Usage
from appliance.wire import Delta, Finished, Started


def request(seed: int | None = None) -> Request:
    return Request(
        id="r",
        model="m",
        principal="p",
        cache_domain="p",
        prompt=TextPrompt(text="x"),
        sampling=SamplingParams(seed=seed),
    )


def streams_of(n: int, each: int | None = None) -> tuple[ChoiceStreams, list[ResponseStream]]:
    """each: how many of them a prompt has; all have the same by default."""
    wake = asyncio.Event()
    streams = [ResponseStream(request(), choice=index, wake=wake) for index in range(n)]
    return ChoiceStreams(streams, wake, each or n), streams


def say(stream: ResponseStream, text: str) -> None:
    stream.push(Delta(number=1, text=text, tokens=1))


def done(tokens: int, cached: int = 0, reason: FinishReason = "stop") -> Finished:
    return Finished(
        number=1,
        reason=reason,
        usage=Usage(prompt_tokens=9, completion_tokens=tokens, cached_tokens=cached),
        timings=Timings(queue_seconds=tokens, prefill_seconds=tokens, decode_seconds=tokens),
    )


def test_each_choice_has_its_own_seed() -> None:
    assert [choice.sampling.seed for choice in choices_of(request(7), 3)] == [7, 8, 9]
    assert [choice.sampling.seed for choice in choices_of(request(2**63 - 1), 2)] == [2**63 - 1, -(2**63)]
    assert [choice.sampling.seed for choice in choices_of(request(), 2)] == [None, None]


def test_each_prompt_has_choices_of_its_own() -> None:
    two = msgspec.structs.replace(request(7), further=(TextPrompt(text="y"),))
    choices = choices_of(two, 2)
    assert [(choice.prompt, choice.sampling.seed) for choice in choices] == [
        (TextPrompt(text="x"), 7),
        (TextPrompt(text="x"), 8),
        (TextPrompt(text="y"), 7),
        (TextPrompt(text="y"), 8),
    ]


async def test_each_prompt_counts_once() -> None:
    source, streams = streams_of(4, each=2)
    for tokens, stream in enumerate(streams):
        stream.finish(done(tokens, cached=tokens))
    for _ in range(3):
        await source.next()
    end = await source.next()
    assert isinstance(end, AnswerEnd)
    assert end.usage == Usage(prompt_tokens=18, completion_tokens=0 + 1 + 2 + 3, cached_tokens=0 + 2)


async def test_choices_take_turns_and_end_one_by_one() -> None:
    source, (first, second) = streams_of(2)
    for piece in "abc":
        say(first, piece)
    say(second, "x")
    assert await source.next() == Text(choice=0, text="abc", tokens=3)
    second.finish(done(1, cached=8, reason="length"))
    assert await source.next() == Text(choice=1, text="x", tokens=1)
    assert await source.next() == ChoiceEnd(choice=1, reason="length")
    source.nudge()
    assert await source.next() is None
    first.finish(done(3, cached=2))
    assert await source.next() == AnswerEnd(
        choice=0,
        reason="stop",
        usage=Usage(prompt_tokens=9, completion_tokens=4, cached_tokens=2),
        timings=Timings(queue_seconds=3, prefill_seconds=3, decode_seconds=3),
    )


async def test_one_failure_is_the_request_s() -> None:
    source, (first, second) = streams_of(2)
    say(first, "a")
    second.finish(RequestError("engine_crash", "boom"))
    with pytest.raises(RequestError, match="boom"):
        await source.next()


async def test_out_of_time_every_choice_ends() -> None:
    source, streams = streams_of(3)
    for stream in streams:
        stream.push(Started(number=1, prompt_tokens=9, cached_tokens=4))
        say(stream, "x")
    source.expire()
    events = [await source.next() for _ in range(6)]
    assert [event.choice for event in events if isinstance(event, Text)] == [0, 1, 2]
    assert [event.reason for event in events if isinstance(event, ChoiceEnd)] == ["length"] * 3
    assert isinstance(events[-1], AnswerEnd)
    assert events[-1].usage == Usage(prompt_tokens=9, completion_tokens=3, cached_tokens=4)


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["say", "end", "read"])), max_size=40))
def test_every_choice_keeps_its_text_and_the_last_end_is_the_answer_s(steps: list[tuple[int, str]]) -> None:
    """Whatever the order of pushes and reads."""

    async def play() -> None:
        source, streams = streams_of(3)
        said, heard = ["", "", ""], ["", "", ""]
        ends: list[ChoiceEnd] = []

        async def read() -> None:
            source.nudge()
            event = await source.next()
            if isinstance(event, Text):
                heard[event.choice] += event.text
            elif isinstance(event, ChoiceEnd):
                ends.append(event)

        for number, (choice, step) in enumerate(steps):
            if step == "read":
                if len(ends) < 3:
                    await read()
            elif step == "end":
                streams[choice].finish(done(1))
            elif not streams[choice].ended:
                said[choice] += str(number)
                say(streams[choice], str(number))
        for stream in streams:
            stream.finish(done(1))
        while len(ends) < 3:
            await read()
        assert heard == said
        assert sorted(end.choice for end in ends) == [0, 1, 2]
        assert [isinstance(end, AnswerEnd) for end in ends] == [False, False, True]

    asyncio.run(play())
