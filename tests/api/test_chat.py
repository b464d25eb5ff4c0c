"""Chat and completions over HTTP: shapes, streams, validation, errors."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import aiohttp
import msgspec
import pytest

from appliance.config import RequestLimits
from tests.api.conftest import Api, ApiFactory, sse
from tests.sessions import owning_session


async def test_blocking_chat_has_openais_shape(api: Api) -> None:
    answer = await api.chat("started say:Hello say:_world", max_tokens=5)
    body = await answer.json()
    assert answer.status == 200
    assert body["object"] == "chat.completion"
    assert body["model"] == "demo"
    assert body["choices"] == [
        {
            "message": {"content": "Hello world", "role": "assistant"},
            "finish_reason": "stop",
            "index": 0,
            "logprobs": None,
        }
    ]
    assert body["usage"] == {
        "prompt_tokens": 7,
        "completion_tokens": 2,
        "total_tokens": 9,
        "prompt_tokens_details": {"cached_tokens": 3},
    }


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/chat/completions"])
@pytest.mark.parametrize("include_usage", [True, False])
async def test_stream_is_what_dify_reads(api: Api, path: str, include_usage: bool) -> None:
    body: dict[str, Any] = {
        "model": "gpt-x",
        "stream": True,
        "messages": [{"role": "user", "content": "started say:Hel sleep:0.05 say:lo"}],
    }
    if include_usage:
        body["stream_options"] = {"include_usage": True}
    answer = await api.session.post(path, json=body)
    assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert "Content-Encoding" not in answer.headers
    *chunks, done = sse(await answer.text())
    assert done == "[DONE]"
    assert all(isinstance(chunk["choices"], list) for chunk in chunks)  # type: ignore[index]
    assert len({chunk["id"] for chunk in chunks}) == 1  # type: ignore[index]
    with_choice: list[Any] = [c["choices"][0] for c in chunks if c["choices"]]  # type: ignore[index]
    assert with_choice[0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(c["delta"].get("content", "") for c in with_choice) == "Hello"
    assert [c["finish_reason"] for c in with_choice if c["finish_reason"]] == ["stop"]
    finish: Any = next(c for c in chunks if c["choices"] and c["choices"][0]["finish_reason"])  # type: ignore[index]
    assert finish["usage"]["prompt_tokens"] == 7
    empty = [c for c in chunks if not c["choices"]]  # type: ignore[index]
    assert len(empty) == (1 if include_usage else 0)
    if empty:
        assert empty[0]["usage"] == finish["usage"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": 2**63}, "max_tokens"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": 3}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"seed": 2**70}, "seed"),
        ({"stop": [1]}, "stop[0]"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"n": 10**9}, "n"),
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"logprobs": 5}, "logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"top_logprobs": 1}, "top_logprobs"),
        ({"logit_bias": {"5": True}}, "logit_bias"),
        ({"logit_bias": {"5": 1e9}}, "logit_bias[...]"),
        ({"logit_bias": {"five": 1}}, "logit_bias"),
        ({"logit_bias": {"-5": 1}}, "logit_bias"),
        ({"logit_bias": [5]}, "logit_bias"),
        ({"logit_bias": {str(token): 1 for token in range(1025)}}, "logit_bias"),
        ({"mirostat": 3}, "mirostat"),
        ({"xtc_probability": 2}, "xtc_probability"),
        ({"dry_sequence_breakers": [""]}, "dry_sequence_breakers[0]"),
        ({"priority": -1}, "priority"),
        ({"priority": 101}, "priority"),
        ({"priority": 1.5}, "priority"),
        ({"deadline_seconds": 0}, "deadline_seconds"),
        ({"user": 5}, "user"),
        ({"response_format": {"type": "yaml"}}, "response_format.type"),
        (
            {
                "tool_choice": "required",
                "tools": [{"function": {"name": "f"}}],
                "response_format": {"type": "json_object"},
            },
            "response_format",
        ),
        ({"tool_choice": {"function": {"name": "g"}}, "tools": [{"function": {"name": "f"}}]}, "tool_choice"),
        ({"tool_choice": "sometimes"}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [{}]}, "tools[0]"),
        ({"functions": [{}]}, "functions[0]"),
        ({"function_call": {}, "functions": [{"name": "f"}]}, "function_call"),
        ({"reasoning_budget": -2}, "reasoning_budget"),
        ({"thinking": {"budget_tokens": "many"}}, "thinking.budget_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0]"),
        ({"model": "nope"}, "model"),
        ({"model": None}, "model"),
    ],
)
async def test_a_wrong_field_is_named(api: Api, fields: dict[str, Any], param: str) -> None:
    answer = await api.chat("say:x", **fields)
    error = (await answer.json())["error"]
    assert answer.status == (404 if fields.get("model") == "nope" else 400)
    assert error["param"] == param
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"


async def test_unknown_and_null_fields_are_ignored(api: Api) -> None:
    answer = await api.chat(
        "say:x",
        user="u",
        thinking={"type": "disabled"},
        enable_thinking=False,
        max_tokens=None,
        stop=None,
        response_format={"type": "text"},
        stream_options=None,
        logit_bias=None,
    )
    assert answer.status == 200


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"not json", "invalid_json"),
        (b'{"model": NaN}', "invalid_json"),
        (b'{"model": "demo", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "invalid_json"),
        (b'{"model": "\\ud800"}', "invalid_json"),
        (b'{"model": "\xff"}', "invalid_json"),
        (b'\xef\xbb\xbf{"model": "demo"}', "invalid_json"),
        (b'{"model": "demo", "messages": [{"role": "user"}]} trailing', "invalid_json"),
        (b"[]", "invalid_request"),
        (
            b'{"model": "demo", "messages": [{"role": "user"}], "tools": ['
            + b'{"a":' * 200
            + b"1"
            + b"}" * 200
            + b"]}",
            "invalid_request",
        ),
    ],
)
async def test_bodies_that_are_no_request(api: Api, body: bytes, code: str) -> None:
    answer = await api.session.post("/v1/chat/completions", data=body)
    assert (answer.status, (await answer.json())["error"]["code"]) == (400, code)


async def test_too_large_bodies_are_413(start_api: ApiFactory) -> None:
    api = await start_api(limits=RequestLimits(body_bytes_max=2**20))
    for body in (io.BytesIO(b"x" * (2**20 + 1)), _chunked(b"x" * 2**16, 17)):
        answer = await api.session.post("/v1/completions", data=body)
        assert (answer.status, (await answer.json())["error"]["code"]) == (413, "body_too_large")


async def _chunked(piece: bytes, count: int) -> Any:
    for _ in range(count):
        yield piece


async def test_compressed_bodies_are_415(api: Api) -> None:
    answer = await api.session.post("/v1/completions", data=b"x", headers={"Content-Encoding": "gzip"})
    assert answer.status == 415


async def test_a_dripping_body_is_408(start_api: ApiFactory) -> None:
    api = await start_api(limits=RequestLimits(body_seconds=0.2))

    async def drip() -> Any:
        for _ in range(20):
            yield b" "
            await asyncio.sleep(0.1)

    answer = await api.session.post("/v1/completions", data=drip())
    assert answer.status == 408


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nowhere", 404, "route_not_found"),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
        ("POST", "/livez", 405, "method_not_allowed"),
        ("TRACE", "/v1/models", 405, "method_not_allowed"),
    ],
)
async def test_routing_errors_have_the_envelope(api: Api, method: str, path: str, status: int, code: str) -> None:
    answer = await api.session.request(method, path)
    assert answer.status == status
    assert (await answer.json())["error"]["code"] == code


async def test_no_key_and_a_wrong_key_are_401(api: Api) -> None:
    async with owning_session(api.url) as stranger:
        for headers in ({}, {"Authorization": "Bearer bad"}):
            answer = await stranger.post("/v1/nowhere", headers=headers)
            assert answer.status == 401
            assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert [record.outcome for record in api.records] == ["refused", "refused"]


async def test_malformed_http_has_the_envelope(api: Api) -> None:
    host, port = api.url.removeprefix("http://").split(":")
    for request in (b"GET /v1/models HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"\x16\x03\x01garbage\r\n\r\n"):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(request)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        assert answer.split(b" ")[1] == b"400"
        assert msgspec.json.decode(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "invalid_request"


async def test_http_1_0_is_refused_with_the_reason(api: Api) -> None:
    host, port = api.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /v1/models HTTP/1.0\r\nAuthorization: Bearer good\r\n\r\n")
    assert b"proxy_http_version 1.1" in await reader.read()
    writer.close()
    await writer.wait_closed()


async def test_request_id_comes_back_or_is_made(api: Api) -> None:
    sent = await api.session.get("/v1/models", headers={"X-Request-Id": "abc-1"})
    made = await api.session.get("/v1/models", headers={"X-Request-Id": "no spaces please"})
    assert sent.headers["X-Request-Id"] == "abc-1"
    assert len(made.headers["X-Request-Id"]) == 32
    streamed = await api.chat("say:x", stream=True)
    await streamed.read()
    assert streamed.headers["X-Request-Id"] == api.records[-1].id


async def test_models_are_listed_and_found_by_alias(api: Api) -> None:
    await (await api.chat("say:x")).read()
    listed = (await (await api.session.get("/v1/models")).json())["data"]
    assert [model["id"] for model in listed] == ["demo"]
    assert listed[0]["meta"]["n_ctx"] == 1000
    one = await (await api.session.get("/models/gpt-x")).json()
    assert one["id"] == "demo"
    assert (await api.session.get("/v1/models/nope")).status == 404


async def test_a_kept_alive_connection_survives_many_requests_of_all_kinds(api: Api) -> None:
    connector = aiohttp.TCPConnector(limit=1)
    async with aiohttp.ClientSession(api.url, connector=connector, headers=api.session.headers) as session:
        for number in range(60):
            body = {
                "model": "demo",
                "prompt": "say:x",
                "stream": number % 2 == 0,
                "max_tokens": -1 if number % 5 == 4 else 1,
            }
            answer = await session.post("/v1/completions", json=body)
            await answer.read()
            assert answer.status == (400 if number % 5 == 4 else 200)
            assert len(connector._conns) == 1


async def test_worker_errors_are_real_statuses(api: Api) -> None:
    for stream in (True, False):
        answer = await api.chat("fail:context_length_exceeded", stream=stream)
        error = (await answer.json())["error"]
        assert (answer.status, error["code"]) == (400, "context_length_exceeded")


async def test_one_record_per_request(api: Api) -> None:
    await (await api.chat("started say:x", stream=True)).read()
    await (await api.chat("fail:template_error")).read()
    await (await api.session.get("/livez")).read()
    ok, failed = api.records
    assert (ok.outcome, ok.status, ok.principal, ok.model, ok.stream) == ("ok", 200, "tester", "demo", True)
    assert (ok.prompt_tokens, ok.cached_tokens, ok.completion_tokens, ok.finish_reason) == (7, 3, 1, "stop")
    assert ok.ttft_seconds is not None
    assert (ok.queue_seconds, ok.prefill_seconds, ok.decode_seconds) == (0.1, 0.2, 0.3)
    assert (failed.outcome, failed.status, failed.error_code) == ("refused", 400, "template_error")
