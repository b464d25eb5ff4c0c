"""Several choices of one request (`n`): shapes, bounds, failures."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import pytest

from appliance.config import RequestLimits
from tests.api.conftest import Api, ApiFactory, sse
from tests.api.test_failures import FAST, outstanding, ready
from tests.waiting import until

# Three choices with the seeds 7, 8 and 9: `bb` comes after `a`, and `c` is last to end.
SCRIPT = "started 7?say:a 8?sleep:0.1 8?say:b 8?say:b 9?sleep:0.3 9?say:c"


async def test_blocking_choices_are_one_answer(api: Api) -> None:
    body = await (await api.chat(SCRIPT, n=3, seed=7)).json()
    assert [(choice["index"], choice["message"]["content"]) for choice in body["choices"]] == [
        (0, "a"),
        (1, "bb"),
        (2, "c"),
    ]
    assert [choice["finish_reason"] for choice in body["choices"]] == ["stop"] * 3
    assert (body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"]) == (7, 4)
    assert body["usage"]["prompt_tokens_details"] == {"cached_tokens": 3}
    (record,) = api.records
    assert (record.prompt_tokens, record.completion_tokens, record.finish_reason) == (7, 4, "stop")


@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize("include_usage", [True, False])
async def test_streamed_choices_interleave(api: Api, chat: bool, include_usage: bool) -> None:
    ask = api.chat if chat else api.completion
    answer = await ask(SCRIPT, n=3, seed=7, stream=True, stream_options={"include_usage": include_usage})
    chunks: list[Any] = sse(await answer.text())
    assert chunks.pop() == "[DONE]"
    if include_usage:
        asked = chunks.pop()
        assert asked["choices"] == []
        assert asked["usage"] == chunks[-1]["usage"]
    assert [index for index, chunk in enumerate(chunks) if "usage" in chunk] == [len(chunks) - 1]
    assert chunks[-1]["usage"]["completion_tokens"] == 4
    assert len({chunk["id"] for chunk in chunks}) == 1
    for index, text in enumerate(("a", "bb", "c")):
        choices = [chunk["choices"][0] for chunk in chunks if chunk["choices"][0]["index"] == index]
        if chat:
            assert choices[0]["delta"] == {"role": "assistant", "content": ""}
            assert "".join(choice["delta"].get("content", "") for choice in choices) == text
        else:
            assert "".join(choice["text"] for choice in choices) == text
        assert [choice["finish_reason"] for choice in choices] == [None] * (len(choices) - 1) + ["stop"]


async def test_choices_without_a_seed_are_sent_as_they_are(api: Api) -> None:
    body = await (await api.completion("tell", n=2)).json()
    assert all('"seed":null' in choice["text"] for choice in body["choices"])


@pytest.mark.parametrize(
    ("fields", "says"),
    [({"n": 2, "best_of": 1}, "less than n"), ({"best_of": 3, "stream": True}, "known at the end")],
)
async def test_best_of_makes_sense_or_is_refused(api: Api, fields: dict[str, object], says: str) -> None:
    answer = await api.completion("say:x", **fields)
    error = (await answer.json())["error"]
    assert (answer.status, error["param"]) == (400, "best_of") and says in error["message"]


async def test_the_best_are_the_likeliest_and_all_are_paid_for(api: Api) -> None:
    answer = await api.completion("7?say:a 8?say:likely 9?say:b", n=1, best_of=3, seed=7)
    body = await answer.json()
    assert [choice["index"] for choice in body["choices"]] == [0]
    assert body["choices"][0]["logprobs"] is None, "nobody asked for them"
    assert body["usage"]["completion_tokens"] == 3


async def test_several_prompts_have_choices_of_their_own(api: Api) -> None:
    answer = await api.session.post(
        "/v1/completions", json={"model": "demo", "prompt": ["say:a", "say:b"], "n": 2, "echo": True}
    )
    body = await answer.json()
    assert [(choice["index"], choice["text"]) for choice in body["choices"]] == [
        (0, "say:aa"),
        (1, "say:aa"),
        (2, "say:bb"),
        (3, "say:bb"),
    ]
    assert body["usage"]["prompt_tokens"] == 2 * 7


async def test_an_echo_streams_before_the_answer(api: Api) -> None:
    answer = await api.completion("say:a say:b", echo=True, stream=True)
    chunks = [chunk for chunk in sse(await answer.text()) if isinstance(chunk, dict)]
    texts = [choice["text"] for chunk in chunks for choice in chunk["choices"]]  # type: ignore
    assert texts[0] == "say:a say:b" and "".join(texts[1:]) == "ab"


@pytest.mark.parametrize(
    ("prompt", "fields", "param"),
    [
        ([], {}, "prompt"),
        ([1, "a"], {}, "prompt"),
        ([[1], 2], {}, "prompt"),
        ([1, 2], {"echo": True}, "echo"),
        ([1, 2], {"suffix": "x"}, "suffix"),
        ("a", {"echo": True, "logprobs": 1, "suffix": "x"}, "echo"),
        ("a", {"max_tokens": 0}, "max_tokens"),
        (["a"] * 300, {}, "n"),
    ],
)
async def test_prompts_that_are_none_are_refused(
    api: Api, prompt: object, fields: dict[str, object], param: str
) -> None:
    answer = await api.session.post("/v1/completions", json={"model": "demo", "prompt": prompt, **fields})
    assert (answer.status, (await answer.json())["error"]["param"]) == (400, param)


@pytest.mark.parametrize("stream", [True, False])
async def test_one_choice_that_fails_fails_the_request_and_aborts_the_others(api: Api, stream: bool) -> None:
    await ready(api)
    answer = await api.chat("7?hang 9?hang 8?sleep:0.1 8?fail:kv_cache_full", n=3, seed=7, stream=stream)
    assert (answer.status, (await answer.json())["error"]["code"]) == (503, "kv_cache_full")
    assert answer.headers["Retry-After"] == "2"
    assert outstanding(api) == 0
    assert [(record.outcome, record.error_code) for record in api.records] == [("failed", "kv_cache_full")]


async def test_a_choice_that_fails_after_the_commit_ends_the_stream(start_api: ApiFactory) -> None:
    api = await start_api(limits=FAST)
    blocks: list[Any] = sse(
        await (await api.chat("say:x 8?sleep:0.4 8?fail:internal_error hang", n=2, seed=7, stream=True)).text()
    )
    assert blocks[-1]["error"]["code"] == "internal_error"
    assert outstanding(api) == 0


async def test_all_choices_are_admitted_or_none(start_api: ApiFactory) -> None:
    api = await start_api(limits=RequestLimits(outstanding_per_principal_max=4, queue_depth_max=8))
    await ready(api)
    never = await api.chat("say:x", n=5)
    error = (await never.json())["error"]
    assert (never.status, error["param"], error["message"]) == (400, "n", "n: at most 4 choices are answered here")
    held = asyncio.get_running_loop().create_task(api.chat("hang", n=2))
    await until(lambda: outstanding(api) == 2)
    refused = await api.chat("say:x", n=3)
    error = (await refused.json())["error"]
    assert (refused.status, refused.headers["Retry-After"], error["code"]) == (429, "1", "too_many_requests")
    assert "has 2 requests" in error["message"]
    assert "asks for 3 more; the limit is 4" in error["message"]
    assert outstanding(api) == 2
    assert (await api.chat("say:x", n=2)).status == 200
    held.cancel()
    await until(lambda: outstanding(api) == 0)


async def test_the_queue_takes_all_choices_or_none(start_api: ApiFactory) -> None:
    api = await start_api(limits=RequestLimits(outstanding_per_principal_max=8, queue_depth_max=3))
    await ready(api)
    held = asyncio.get_running_loop().create_task(api.chat("hang", n=2))
    await until(lambda: outstanding(api) == 2)
    refused = await api.chat("say:x", n=2)
    error = (await refused.json())["error"]
    assert (refused.status, refused.headers["Retry-After"], error["code"]) == (503, "2", "queue_full")
    assert "has 2 requests outstanding and is asked for 2 more; the limit is 3" in error["message"]
    held.cancel()
    await until(lambda: outstanding(api) == 0)


async def test_choices_that_are_too_much_for_the_socket_are_refused(api: Api) -> None:
    """Each is a frame of its own with the whole prompt."""
    await ready(api)
    body = b'{"model": "demo", "n": 128, "prompt": "%s"}' % (b"x" * 2**21)
    answer = await api.session.post("/v1/completions", data=io.BytesIO(body))
    assert (answer.status, (await answer.json())["error"]["param"]) == (400, "n")
    assert outstanding(api) == 0


async def test_a_choice_that_crashes_the_engine_ends_the_request(api: Api) -> None:
    """Each choice is tried again by itself, as any request."""
    await ready(api)
    answer = await api.chat("started 8?sleep:0.2 8?crash sleep:0.5 say:x", n=2, seed=7)
    assert (answer.status, (await answer.json())["error"]["code"]) == (503, "engine_crash")
    assert api.records[-1].attempts == 2
    assert (await api.chat("say:x")).status == 200
