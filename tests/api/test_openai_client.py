"""The official client as a judge of everything the real models cannot be told to do: it checks what it reads."""

from __future__ import annotations

from collections.abc import AsyncIterator

import openai
import pytest

from tests.api.conftest import Api


@pytest.fixture
async def client(api: Api) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{api.url}/v1", api_key="good", max_retries=0, _strict_response_validation=True
    ) as made:
        yield made


async def test_a_chat_with_choices_and_logprobs(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(
        model="demo",
        messages=[{"role": "user", "content": "started 7?say:a 8?say:b"}],
        n=2,
        seed=7,
        logprobs=True,
        top_logprobs=2,
        logit_bias={"5": -100},
        user="somebody",
        extra_body={"min_p": 0.1, "priority": 60, "deadline_seconds": 30, "post_sampling_probs": True},
    )
    assert [choice.message.content for choice in answer.choices] == ["a", "b"]
    logprobs = answer.choices[1].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert (logprobs.content[0].token, logprobs.content[0].bytes, len(logprobs.content[0].top_logprobs)) == (
        "b",
        [98],
        2,
    )


async def test_a_streamed_chat_with_choices_and_logprobs(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="demo",
        messages=[{"role": "user", "content": "started 7?say:a 8?say:b"}],
        n=2,
        seed=7,
        logprobs=True,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    texts = {0: "", 1: ""}
    tokens = {0: "", 1: ""}
    for chunk in chunks[:-1]:
        (choice,) = chunk.choices
        texts[choice.index] += choice.delta.content or ""
        if choice.logprobs is not None and choice.logprobs.content is not None:
            tokens[choice.index] += "".join(entry.token for entry in choice.logprobs.content)
    assert texts == tokens == {0: "a", 1: "b"}
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 2


async def test_a_completion_with_choices_and_logprobs(client: openai.AsyncOpenAI) -> None:
    answer = await client.completions.create(
        model="demo", prompt="started say:a say:b", n=2, best_of=2, logprobs=1, logit_bias={"5": -100}, user="somebody"
    )
    for choice in answer.choices:
        assert choice.text == "ab"
        assert choice.logprobs is not None
        assert (choice.logprobs.tokens, choice.logprobs.text_offset) == (["a", "b"], [0, 1])


async def test_a_request_out_of_time_is_the_client_s_own_exception(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as late:
        await client.completions.create(model="demo", prompt="fail:deadline_exceeded")
    assert (late.value.status_code, late.value.code) == (504, "deadline_exceeded")
