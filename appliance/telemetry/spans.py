"""A request that has ended as spans of a trace, in OTLP's JSON. Pure.

Format: https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding; names of attributes: OpenTelemetry's semantic
conventions. What the worker measured are lengths; where they lie follows from the first text: the prompt ends there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from appliance.telemetry.request_record import RequestRecord
from appliance.telemetry.trace_context import RandomBytes, TraceContext, new_span_id

_SERVER: Final = 2
_INTERNAL: Final = 1
_ERROR: Final = 2
_NANOSECONDS: Final = 1_000_000_000
_OPERATIONS: Final[Mapping[str, str]] = {
    "chat/completions": "chat",
    "messages": "chat",
    "responses": "chat",
    "completions": "text_completion",
    "embeddings": "embeddings",
}


class TracedRequest(Struct, frozen=True, kw_only=True):
    """gate_seconds: how long the handshake of its connection took, of the first request on it. auth_seconds: from its
    arrival until it was known who asked, None where that was never known.
    """

    record: RequestRecord
    trace: TraceContext
    gate_seconds: float | None = None
    auth_seconds: float | None = None


class Stretch(Struct, frozen=True):
    """begin, end: UTC seconds since 1970."""

    name: str
    begin: float
    end: float


def stretches(request: TracedRequest) -> Iterator[Stretch]:
    """What a request went through, in order; none of it ends after the request."""
    record = request.record
    arrived, ended = record.time, record.time + record.total_seconds
    if request.gate_seconds is not None:
        yield Stretch("gate", arrived - request.gate_seconds, arrived)
    known = arrived
    if request.auth_seconds is not None:
        known = min(ended, arrived + request.auth_seconds)
        yield Stretch("auth", arrived, known)
    queue, prefill, decode = record.queue_seconds, record.prefill_seconds, record.decode_seconds
    if queue is None or prefill is None or decode is None:
        return
    prompt_end = ended - decode if record.ttft_seconds is None else arrived + record.ttft_seconds
    marks = [prompt_end - prefill - queue, prompt_end - prefill, prompt_end, prompt_end + decode]
    marks = [min(ended, max(known, mark)) for mark in marks]
    for name, begin, end in zip(("queue", "prefill", "decode"), marks, marks[1:], strict=False):
        yield Stretch(name, begin, end)


def spans_of(request: TracedRequest, random: RandomBytes) -> list[dict[str, Any]]:
    """The request's own span first."""
    record, trace = request.record, request.trace
    own: dict[str, Any] = {
        **_span(trace, trace.span_id, trace.parent_id, f"{record.method} {record.path}", _SERVER),
        **_times(record.time, record.time + record.total_seconds),
        "attributes": list(_attributes(_facts(record))),
    }
    if record.outcome == "failed":
        own["status"] = {"code": _ERROR, "message": record.error_code or ""}
    parts = [
        {
            **_span(trace, new_span_id(random), trace.span_id, one.name, _INTERNAL),
            **_times(one.begin, one.end),
        }
        for one in stretches(request)
    ]
    return [own, *parts]


def export_request(
    requests: Iterable[TracedRequest], resource: Mapping[str, str], random: RandomBytes
) -> dict[str, Any]:
    """An ExportTraceServiceRequest. resource: who says it, such as `service.name`."""
    spans = [span for request in requests for span in spans_of(request, random)]
    scope = {"name": "appliance", "version": resource.get("service.version", "")}
    found: Sequence[dict[str, Any]] = [{"scope": scope, "spans": spans}]
    return {"resourceSpans": [{"resource": {"attributes": list(_attributes(resource))}, "scopeSpans": found}]}


def _facts(record: RequestRecord) -> dict[str, str | int | bool | list[str] | None]:
    operation = _OPERATIONS.get(record.path.removeprefix("/v1").strip("/"))
    answered = record.completion_tokens if record.model is not None else None
    return {
        "http.request.method": record.method,
        "url.path": record.path,
        "http.response.status_code": record.status or None,
        "client.address": record.address,
        "error.type": record.error_code,
        "gen_ai.operation.name": operation,
        "gen_ai.request.model": record.alias or record.model,
        "gen_ai.response.model": record.model,
        "gen_ai.response.finish_reasons": None if record.finish_reason is None else [record.finish_reason],
        "gen_ai.usage.input_tokens": record.prompt_tokens or None,
        "gen_ai.usage.output_tokens": answered,
        "appliance.cached_tokens": record.cached_tokens or None,
        "appliance.request_id": record.id,
        "appliance.principal": record.principal,
        "appliance.outcome": record.outcome,
        "appliance.attempts": record.attempts if record.attempts > 1 else None,
    }


def _attributes(facts: Mapping[str, str | int | bool | list[str] | None]) -> Iterator[dict[str, Any]]:
    for key, value in facts.items():
        if value is not None:
            yield {"key": key, "value": _value(value)}


def _value(value: str | int | bool | list[str]) -> dict[str, Any]:
    """64-bit numbers are text in this encoding."""
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    return {"arrayValue": {"values": [{"stringValue": one} for one in value]}}


def _span(trace: TraceContext, span_id: str, parent_id: str | None, name: str, kind: int) -> dict[str, Any]:
    parent = {} if parent_id is None else {"parentSpanId": parent_id}
    return {"traceId": trace.trace_id, "spanId": span_id, **parent, "name": name, "kind": kind}


def _times(begin: float, end: float) -> dict[str, str]:
    return {
        "startTimeUnixNano": str(round(begin * _NANOSECONDS)),
        "endTimeUnixNano": str(round(end * _NANOSECONDS)),
    }
