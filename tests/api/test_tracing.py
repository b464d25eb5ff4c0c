"""Traces through the API: in, out, in the record, in the log, and as spans at the end."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from appliance.telemetry.log_buffer import LogBuffer
from appliance.telemetry.trace_sinks import FileSink
from appliance.telemetry.tracing import Tracing
from tests.api.conftest import running_api

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def traced(*, sink: bool = True, ratio: float = 1.0) -> Tracing:
    return Tracing(FileSink(Path("/nowhere/at/all"), 1000) if sink else None, resource={}, ratio=ratio)


async def test_a_trace_of_the_client_goes_through() -> None:
    tracing = traced()
    async with running_api(tracing=tracing) as api:
        header = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
        async with api.session.post(
            "/v1/completions", json={"model": "demo", "prompt": "say:x"}, headers=header
        ) as answer:
            assert answer.status == 200
            given = answer.headers["traceparent"]
    (ended,) = tracing._queue
    assert given == f"00-{TRACE}-{ended.trace.span_id}-01" and ended.trace.span_id != PARENT
    assert ended.trace.parent_id == PARENT and ended.record.trace_id == TRACE
    assert ended.auth_seconds is not None and 0 <= ended.auth_seconds <= ended.record.total_seconds
    assert api.records[-1].trace_id == TRACE


async def test_a_stream_says_its_trace_too() -> None:
    async with running_api(tracing=traced()) as api, await api.completion("say:x", stream=True) as answer:
        assert answer.headers["traceparent"].startswith("00-")
        await answer.read()


async def test_a_refusal_is_traced() -> None:
    tracing = traced()
    wrong = {"Authorization": "Bearer wrong"}
    async with running_api(tracing=tracing) as api, api.session.get("/v1/models", headers=wrong) as answer:
        assert answer.status == 401 and "traceparent" in answer.headers
    (ended,) = tracing._queue
    assert ended.auth_seconds is None and ended.record.error_code == "invalid_api_key"


async def test_off_leaves_no_trace() -> None:
    async with running_api(tracing=traced(sink=False)) as api, await api.completion("say:x") as answer:
        assert answer.status == 200 and "traceparent" not in answer.headers
    assert api.records[-1].trace_id is None


async def test_health_checks_are_no_requests() -> None:
    tracing = traced()
    async with running_api(tracing=tracing) as api, api.session.get("/livez") as answer:
        assert answer.status == 200
    assert not tracing._queue


async def test_log_lines_name_request_and_trace(caplog: pytest.LogCaptureFixture) -> None:
    buffer = LogBuffer(lines_max=100, bytes_max=2**20)
    logger = logging.getLogger("appliance.api.middleware")
    logger.addHandler(buffer)
    caplog.set_level(logging.DEBUG, logger.name)
    try:
        async with running_api(tracing=traced()) as api:
            headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-Id": "r1"}
            async with api.session.get("/v1/none", headers=headers) as answer:
                assert answer.status == 404
    finally:
        logger.removeHandler(buffer)
    (line,) = buffer.page().lines
    assert (line.request_id, line.trace_id) == ("r1", TRACE)
