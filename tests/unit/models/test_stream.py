"""What a reader sees of an answer: merged text, the end last, nudges, deadlines."""

from __future__ import annotations

import asyncio

import pytest

from appliance.errors import RequestError
from appliance.models.stream import BUFFER_CHARS_MAX, AnswerEnd, ResponseStream, Text
from appliance.types import Request, TextPrompt, Timings, TokenLogprob, Usage
from appliance.wire import Delta, Finished, Scored, Started

DONE = Finished(
    number=0,
    reason="stop",
    usage=Usage(prompt_tokens=1, completion_tokens=1),
    timings=Timings(queue_seconds=0, prefill_seconds=0, decode_seconds=0),
)


def stream() -> ResponseStream:
    return ResponseStream(Request(id="r", model="m", principal="p", cache_domain="p", prompt=TextPrompt(text="x")))


def delta(text: str, *logprobs: TokenLogprob) -> Delta:
    return Delta(number=1, text=text, tokens=1, logprobs=logprobs)


def logprob(token: int) -> TokenLogprob:
    return TokenLogprob(token=token, piece=b"x", logprob=-1.0)


async def test_waiting_deltas_merge_and_the_end_comes_last() -> None:
    target = stream()
    for text in ("a", "b", "c"):
        target.push(delta(text))
    target.finish(DONE)
    target.finish(RequestError("internal_error", "too late"))
    target.push(delta("never"))
    assert await target.next() == Text(choice=0, text="abc", tokens=3)
    assert await target.next() == AnswerEnd(choice=0, reason="stop", usage=DONE.usage, timings=DONE.timings)


async def test_logprobs_merge_with_their_text() -> None:
    target = stream()
    target.push(delta("a", logprob(1), logprob(2)))
    target.push(delta("b", logprob(3)))
    merged = await target.next()
    assert isinstance(merged, Text)
    assert [entry.token for entry in merged.logprobs] == [1, 2, 3]
    target.push(delta("c"))
    assert await target.next() == Text(choice=0, text="c", tokens=1)


async def test_what_is_told_of_a_prompt_comes_with_the_first_text_or_the_end() -> None:
    target = stream()
    target.push(Scored(number=1, logprobs=(logprob(1), logprob(2))))
    target.push(Scored(number=1, logprobs=(logprob(3),)))
    assert not target.began
    target.push(delta("a"))
    first = await target.next()
    assert isinstance(first, Text)
    assert (first.text, [entry.token for entry in first.prompt_logprobs]) == ("a", [1, 2, 3])
    target.push(delta("b"))
    assert await target.next() == Text(choice=0, text="b", tokens=1)
    silent = stream()
    silent.push(Scored(number=1, logprobs=(logprob(1),)))
    silent.try_again()
    silent.push(Scored(number=1, logprobs=(logprob(2),)))
    silent.finish(DONE)
    assert await silent.next() == Text(choice=0, text="", tokens=0, prompt_logprobs=(logprob(2),))
    assert isinstance(await silent.next(), AnswerEnd)


async def test_a_nudge_wakes_a_reader_that_has_nothing() -> None:
    target = stream()
    target.nudge()
    assert await target.next() is None
    target.push(delta("x"))
    target.nudge()
    assert await target.next() == Text(choice=0, text="x", tokens=1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await target.next()


async def test_a_cancelled_read_loses_nothing() -> None:
    target = stream()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await target.next()
    target.push(delta("x"))
    assert await target.next() == Text(choice=0, text="x", tokens=1)


async def test_out_of_time_with_text_is_length_and_what_waits_is_still_read() -> None:
    target = stream()
    target.push(Started(number=1, prompt_tokens=5, cached_tokens=2))
    target.push(delta("a"))
    await target.next()
    target.push(delta("b"))
    target.expire()
    target.push(delta("c"))
    assert await target.next() == Text(choice=0, text="b", tokens=1)
    end = await target.next()
    assert isinstance(end, AnswerEnd)
    assert end.reason == "length"
    assert end.usage == Usage(prompt_tokens=5, completion_tokens=2, cached_tokens=2)


async def test_out_of_time_without_text_is_a_failure() -> None:
    target = stream()
    target.push(Started(number=1, prompt_tokens=5, cached_tokens=2))
    target.expire()
    with pytest.raises(RequestError, match="no answer after its 570 s") as failed:
        await target.next()
    assert (failed.value.code, failed.value.retry_after) == ("deadline_exceeded", 10)


@pytest.mark.parametrize("logprobs", [False, True])
async def test_a_reader_that_falls_behind_is_dropped(logprobs: bool) -> None:
    target = stream()
    top = tuple((index, b"x", -1.0) for index in range(20))
    heavy = TokenLogprob(token=1, piece=b"x", logprob=-1.0, top=top)
    piece = delta("x", *[heavy] * 1000) if logprobs else delta("x" * 350_000)
    pushes = 0
    while not target.ended:
        target.push(piece)
        pushes += 1
    assert pushes == 1 + BUFFER_CHARS_MAX // (336_001 if logprobs else 350_000)
