"""A request as spans: where its parts lie, and OTLP's JSON."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from appliance.telemetry.spans import TracedRequest, export_request, spans_of, stretches
from appliance.telemetry.trace_context import TraceContext
from tests.unit.telemetry.making import record

TRACE = TraceContext(trace_id="a" * 32, span_id="b" * 16, parent_id="c" * 16, sampled=True)
dice = random.Random(7).randbytes


def traced(gate: float | None = None, auth: float | None = None, **fields: Any) -> TracedRequest:
    return TracedRequest(record=record(1, **fields), trace=TRACE, gate_seconds=gate, auth_seconds=auth)


def test_the_prompt_ends_with_the_first_text() -> None:
    timings = {"ttft_seconds": 0.5, "queue_seconds": 0.1, "prefill_seconds": 0.25, "decode_seconds": 1.0}
    found = list(stretches(traced(gate=0.125, auth=0.0625, time=1000.0, total_seconds=2.0, **timings)))
    assert [(one.name, round(one.begin, 4), round(one.end, 4)) for one in found] == [
        ("gate", 999.875, 1000.0),
        ("auth", 1000.0, 1000.0625),
        ("queue", 1000.15, 1000.25),
        ("prefill", 1000.25, 1000.5),
        ("decode", 1000.5, 1001.5),
    ]


def test_without_text_they_lie_before_the_end() -> None:
    timings = {"queue_seconds": 0.5, "prefill_seconds": 0.5, "decode_seconds": 1.0}
    found = list(stretches(traced(time=1000.0, total_seconds=4.0, **timings)))
    assert [(one.name, one.begin) for one in found] == [("queue", 1002.0), ("prefill", 1002.5), ("decode", 1003.0)]


def test_a_request_that_was_refused_has_no_parts_of_a_worker() -> None:
    assert [one.name for one in stretches(traced(auth=5.0, total_seconds=1.0))] == ["auth"]
    assert next(stretches(traced(auth=5.0, total_seconds=1.0))).end == 2.0


seconds = st.floats(0, 100)


@given(seconds, seconds, seconds, seconds, st.none() | seconds, st.none() | seconds)
def test_parts_are_in_order_and_within_the_request(
    total: float, queue: float, prefill: float, decode: float, ttft: float | None, auth: float | None
) -> None:
    timings = {"queue_seconds": queue, "prefill_seconds": prefill, "decode_seconds": decode, "ttft_seconds": ttft}
    found = list(stretches(traced(auth=auth, time=1000.0, total_seconds=total, **timings)))
    marks = [mark for one in found for mark in (one.begin, one.end)]
    assert marks == sorted(marks)
    assert all(1000.0 <= mark <= 1000.0 + total for mark in marks)


def test_spans_belong_together() -> None:
    own, auth = spans_of(traced(auth=0.1, outcome="failed", status=503, error_code="queue_full"), dice)
    assert (own["traceId"], own["spanId"], own["parentSpanId"]) == ("a" * 32, "b" * 16, "c" * 16)
    assert (own["name"], own["kind"]) == ("POST /v1/completions", 2)
    assert own["status"] == {"code": 2, "message": "queue_full"}
    assert (auth["name"], auth["parentSpanId"], auth["traceId"]) == ("auth", "b" * 16, "a" * 32)
    assert auth["spanId"] not in ("b" * 16, "c" * 16) and len(auth["spanId"]) == 16
    assert own["startTimeUnixNano"] == "1000000000" and own["endTimeUnixNano"] == "2000000000"


def test_what_is_told_of_a_request() -> None:
    request = traced(model="qwen", alias="chat", finish_reason="stop", principal="dify", path="/v1/chat/completions")
    (own,) = spans_of(request, dice)
    told = {one["key"]: one["value"] for one in own["attributes"]}
    assert told["gen_ai.operation.name"] == {"stringValue": "chat"}
    assert told["gen_ai.request.model"] == {"stringValue": "chat"}
    assert told["gen_ai.response.model"] == {"stringValue": "qwen"}
    assert told["gen_ai.usage.output_tokens"] == {"intValue": "5"}
    assert told["gen_ai.response.finish_reasons"] == {"arrayValue": {"values": [{"stringValue": "stop"}]}}
    assert told["http.response.status_code"] == {"intValue": "200"}
    assert "error.type" not in told and "appliance.attempts" not in told


def test_a_batch() -> None:
    found = export_request([traced(), traced()], {"service.name": "s", "service.version": "1"}, dice)
    (one,) = found["resourceSpans"]
    assert one["resource"]["attributes"][0] == {"key": "service.name", "value": {"stringValue": "s"}}
    (scope,) = one["scopeSpans"]
    assert scope["scope"] == {"name": "appliance", "version": "1"} and len(scope["spans"]) == 2
