"""Errors on both sides of the commit, for every endpoint: before it a real status, after it what its clients read.

After it a stream ends with an error in its own dialect and says nothing more; a blocking call is cut. Never is there a
whole 200 with an error in it.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from appliance.config import RequestLimits
from appliance.errors import ErrorCode, RequestError
from tests.api.conftest import Api, running_api
from tests.api.transcripts import ASSEMBLE, asked, streamed
from tests.fakes.gate import Gate

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Sooner than any answer that waits at the gate, and later than any other on a busy machine.
SOON_SECONDS, LATE_SECONDS = 0.05, 20.0
CODES: list[ErrorCode] = ["internal_error", "kv_cache_full", "context_length_exceeded", "invalid_request", "queue_full"]
STREAMING = list(ASSEMBLE)
POOLING = ["/v1/embeddings", "/v1/rerank"]
ANTHROPIC = "/v1/messages"


def limits(commit_seconds: float) -> RequestLimits:
    return RequestLimits(
        commit_stream_seconds=commit_seconds,
        commit_blocking_seconds=commit_seconds,
        commit_pooling_seconds=commit_seconds,
        ping_seconds=0.02,
        breaker_failures=0,
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[Api]:
    async with running_api(limits=limits(SOON_SECONDS)) as api:
        await api.router.preloaded()
        yield api
        assert api.router.outstanding == 0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def patient() -> AsyncIterator[Api]:
    async with running_api(limits=limits(LATE_SECONDS)) as api:
        await api.router.preloaded()
        yield api
        assert api.router.outstanding == 0


def body_of(path: str, script: str, *, stream: bool = False) -> dict[str, Any]:
    if path in POOLING:
        return {"model": "demo", "input": script, "query": script, "documents": ["score:0.5"]}
    body = asked(path, script)
    return streamed(path, body) if stream else body


def check_shape(path: str, error: dict[str, Any], code: str) -> None:
    """The error as clients of this endpoint know it. Anthropic's has no code of its own."""
    if path == ANTHROPIC:
        assert error["type"] == "error" and error["error"].keys() >= {"type", "message"}
        assert "told to fail" in error["error"]["message"]
    else:
        assert error["error"].keys() >= {"message", "type", "param", "code"}
        assert error["error"]["code"] == code


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize(
    ("path", "stream"),
    [(path, stream) for path in STREAMING for stream in (False, True)] + [(p, False) for p in POOLING],
)
async def test_before_the_commit_it_is_a_status(patient: Api, path: str, stream: bool, code: ErrorCode) -> None:
    async with patient.session.post(path, json=body_of(path, f"fail:{code}", stream=stream)) as answer:
        assert answer.status == RequestError(code, "").status
        assert answer.content_type == "application/json"
        check_shape(path, await answer.json(), code)
    assert patient.records[-1].error_code == code


@pytest.mark.parametrize(
    ("script", "code"),
    [*(("started say:half fail:CODE", code) for code in CODES), ("started GATE fail:CODE", "internal_error")],
)
@pytest.mark.parametrize("path", STREAMING)
async def test_after_it_a_stream_ends_with_the_error(
    shared: Api, gate: Gate, path: str, script: str, code: ErrorCode
) -> None:
    body = body_of(path, script.replace("GATE", gate.word).replace("CODE", code), stream=True)
    async with shared.session.post(path, json=body) as answer:
        gate.open()
        assert (answer.status, answer.content_type) == (200, "text/event-stream")
        text = await answer.text()
    blocks = [block for block in text.split("\n\n") if block and not block.startswith((":", "event: ping"))]
    assert "[DONE]" not in text
    last = json.loads(blocks[-1].rpartition("data: ")[2])
    # OpenAI's Responses say it twice: an event for those who read events, and what has become of the response.
    before = blocks[:-2] if path == "/v1/responses" else blocks[:-1]
    assert not any("told to fail" in block for block in before)
    if path == "/v1/responses":
        assert last["type"] == "response.failed" and last["response"]["status"] == "failed"
        assert "told to fail" in last["response"]["error"]["message"]
    else:
        check_shape(path, last, code)
    record = shared.records[-1]
    assert (record.outcome, record.status, record.error_code) == ("failed", 200, code)


@pytest.mark.parametrize("code", CODES[:1])
@pytest.mark.parametrize("path", STREAMING + POOLING)
async def test_after_it_a_blocking_call_is_cut(shared: Api, gate: Gate, path: str, code: ErrorCode) -> None:
    async with shared.session.post(path, json=body_of(path, f"{gate.word} fail:{code}")) as answer:
        gate.open()
        assert answer.status == 200
        heard = b""
        with pytest.raises(aiohttp.ClientPayloadError):
            async for piece in answer.content.iter_any():
                heard += piece
        assert heard.strip() == b""
    record = shared.records[-1]
    assert (record.outcome, record.status, record.error_code) == ("failed", 200, code)


@pytest.mark.parametrize("path", STREAMING + POOLING)
async def test_a_blocking_call_may_fail_with_a_status_after_text(patient: Api, path: str) -> None:
    """Text alone commits nothing there: the client has heard nothing yet."""
    async with patient.session.post(path, json=body_of(path, "started say:half fail:kv_cache_full")) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
