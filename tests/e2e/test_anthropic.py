"""The official client of Anthropic's API against the demo, over mutual TLS."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest

from tests.e2e.appliance_process import Appliance

pytestmark = pytest.mark.slow
QUESTION: Any = {"messages": [{"role": "user", "content": "What is mutual TLS?"}], "model": "demo", "max_tokens": 40}
SHORT: Any = {**QUESTION, "max_tokens": 3}
ANSWER_BEGINS = "Mutual TLS means that both sides show a certificate"
# The client has no name for what its own models no longer take.
GREEDY = {"temperature": 0}


def client_of(demo: Appliance, **options: Any) -> anthropic.Anthropic:
    http = anthropic.DefaultHttpxClient(verify=demo.context(), timeout=100)
    options = {"api_key": demo.key(), **options}
    return anthropic.Anthropic(
        base_url=demo.url, http_client=http, max_retries=0, _strict_response_validation=True, **options
    )


def text_of(message: anthropic.types.Message) -> str:
    (block,) = message.content
    assert block.type == "text"
    return block.text


def test_the_client_reads_the_same_answer_whole_and_streamed(demo: Appliance) -> None:
    with client_of(demo) as client:
        whole = client.messages.create(**QUESTION, extra_body=GREEDY)
        with client.messages.stream(**QUESTION, extra_body=GREEDY) as stream:
            text = "".join(stream.text_stream)
            final = stream.get_final_message()
    assert text == text_of(final) == text_of(whole)
    assert text.startswith(ANSWER_BEGINS)
    assert whole.stop_reason == final.stop_reason
    assert whole.usage.output_tokens == final.usage.output_tokens
    read = whole.usage.cache_read_input_tokens or 0, final.usage.cache_read_input_tokens or 0
    assert whole.usage.input_tokens + read[0] == final.usage.input_tokens + read[1]


@pytest.mark.slow
async def test_the_async_client_stops_where_it_is_told(demo: Appliance) -> None:
    http = anthropic.DefaultAsyncHttpxClient(verify=demo.context(), timeout=100)
    async with anthropic.AsyncAnthropic(
        base_url=demo.url, api_key=demo.key(), http_client=http, _strict_response_validation=True
    ) as client:
        whole = await client.messages.create(
            **QUESTION, extra_body=GREEDY, stop_sequences=["nothing like it", " sides"]
        )
        async with client.messages.stream(**QUESTION, extra_body=GREEDY, stop_sequences=[" sides"]) as stream:
            final = await stream.get_final_message()
        short = await client.messages.create(**SHORT)
    assert text_of(whole) == text_of(final) == "Mutual TLS means that both"
    assert (whole.stop_reason, whole.stop_sequence) == ("stop_sequence", " sides")
    assert (final.stop_reason, final.stop_sequence) == ("stop_sequence", " sides")
    assert (short.stop_reason, short.usage.output_tokens) == ("max_tokens", 3)


@pytest.mark.slow
def test_the_key_in_anthropics_header(demo: Appliance) -> None:
    other = "sk-" + "x" * 20
    with client_of(demo, api_key=None, default_headers={"x-api-key": demo.key()}) as client:
        client.messages.create(**SHORT)
    with client_of(demo, default_headers={"x-api-key": demo.key()}) as client:
        client.messages.create(**SHORT)
    with (
        client_of(demo, default_headers={"x-api-key": other}) as client,
        pytest.raises(anthropic.BadRequestError, match="More than one API key"),
    ):
        client.messages.create(**SHORT)
    with (
        client_of(demo, api_key=None, default_headers={"x-api-key": other}) as client,
        pytest.raises(anthropic.AuthenticationError) as refused,
    ):
        client.messages.create(**SHORT)
    assert (refused.value.type, refused.value.error_code) == ("authentication_error", "invalid_api_key")
    assert refused.value.request_id


def test_tokens_are_counted_as_a_request_counts_them(demo: Appliance) -> None:
    tools: Any = [{"name": "now", "description": "The time", "input_schema": {"type": "object"}}]
    asked: Any = {"model": "demo", "messages": QUESTION["messages"], "system": "Be brief.", "tools": tools}
    with client_of(demo) as client:
        counted = client.messages.count_tokens(**asked)
        plain = client.messages.count_tokens(model="demo", messages=QUESTION["messages"])
        answer = client.messages.create(**asked, max_tokens=1)
        with pytest.raises(anthropic.NotFoundError):
            client.messages.count_tokens(**{**asked, "model": "nope"})
    assert counted.input_tokens == answer.usage.input_tokens + (answer.usage.cache_read_input_tokens or 0)
    assert counted.input_tokens > plain.input_tokens > 5


def test_a_prompt_is_computed_ahead(demo: Appliance) -> None:
    asked: Any = {"model": "demo", "messages": [{"role": "user", "content": "What is a warm prompt cache good for?"}]}
    with client_of(demo) as client:
        ahead = client.messages.create(**asked, max_tokens=0)
        answer = client.messages.create(**asked, max_tokens=1)
    assert (ahead.content, ahead.stop_reason, ahead.usage.output_tokens) == ([], "max_tokens", 0)
    assert (
        answer.usage.cache_read_input_tokens
        == ahead.usage.input_tokens + (ahead.usage.cache_read_input_tokens or 0) - 1
    )
