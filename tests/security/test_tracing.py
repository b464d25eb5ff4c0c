"""Traces through real TLS: the gate's part belongs to a connection's first request."""

from __future__ import annotations

from pathlib import Path

from appliance.state_dir import StateDir
from appliance.telemetry.trace_sinks import FileSink
from appliance.telemetry.tracing import Tracing
from tests.security.gated_api import gated_api


async def test_the_gate_is_part_of_the_first_request_of_a_connection(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    state.prepare()
    tracing = Tracing(FileSink(Path("/nowhere/at/all"), 1000), resource={})
    async with gated_api(state, tracing=tracing) as api:
        request = b"GET /v1/models HTTP/1.1\r\nHost: a\r\n" + api.bearer + b"\r\n"
        last = request.replace(b"Host: a\r\n", b"Host: a\r\nConnection: close\r\n")
        conversation = await api.send(request + last)
        assert [reply.status for reply in conversation.replies] == [200, 200]
    first, second = tracing._queue
    assert first.gate_seconds is not None and 0 < first.gate_seconds < 10
    assert second.gate_seconds is None
