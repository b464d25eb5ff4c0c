"""What the real daemon shows of itself: the same figures in every place, and none of it costs the engine anything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, Final

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from appliance.admin_client import AdminClient, AdminEvent
from appliance.telemetry.snapshot import ModelFigures, Snapshot
from tests.e2e.appliance_process import Appliance

# So long that even a daemon which gets little time sees it in pieces.
QUESTION: Final = {"model": "demo", "prompt": "x", "max_tokens": 200, "ignore_eos": True, "stream": True}


async def scraped(admin: AdminClient) -> dict[tuple[str, str], float]:
    """Samples by their name and model."""
    text = b"".join([chunk async for chunk in admin.download("/metrics")]).decode()
    return {
        (sample.name, sample.labels.get("model_name", "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if "le" not in sample.labels
    }


async def test_snapshot_metrics_events_and_history_agree(demo: Appliance) -> None:
    async with AdminClient.local(demo.state / "run" / "admin.sock") as admin, demo.session() as client:
        before = await scraped(admin)
        events = admin.events()
        first = await anext(events)
        assert first.kind == "snapshot"
        headers = {"X-Request-Id": "seen-by-all"}
        async with client.post("/v1/completions", json=QUESTION, headers=headers) as answer:
            assert answer.status == 200
            await answer.read()
        async with asyncio.timeout(60):
            record = await _request(events, "seen-by-all")
        await events.aclose()

        async with asyncio.timeout(60):
            snapshot, model = await _served(admin)
        assert (snapshot.ready, model.state) == (True, "ready")
        assert model.serving is not None
        assert model.serving.ttft.p50 is not None
        assert snapshot.host.disk_free_bytes and snapshot.host.memory_total_bytes

        after = await scraped(admin)
        generated = "appliance_generation_tokens_total", "demo"
        assert after[generated] - before.get(generated, 0.0) == record["completion_tokens"]
        assert after["appliance_model_load_duration_seconds_count", "demo"] >= 1
        # What is read of each answer's pieces.
        gaps = "appliance_inter_token_latency_seconds_count", "demo"
        assert after[gaps] > before.get(gaps, 0.0)

        history = await admin.get("/history")
        assert history["snapshots"][-1]["host_name"] == snapshot.host_name


async def _served(admin: AdminClient) -> tuple[Snapshot, ModelFigures]:
    """A snapshot that knows of the request: they are a second apart."""
    while True:
        snapshot = msgspec.convert(await admin.get("/snapshot"), Snapshot)
        model = next(one for one in snapshot.models if one.id == "demo")
        if model.serving is not None and model.serving.ok >= 1:
            return snapshot, model
        await asyncio.sleep(0.1)


async def _request(events: AsyncGenerator[AdminEvent, None], request_id: str) -> Any:
    async for event in events:
        if event.kind == "requests":
            for record in msgspec.json.decode(event.data)["requests"]:
                if record["id"] == request_id:
                    return record
    raise AssertionError("the stream ended")
