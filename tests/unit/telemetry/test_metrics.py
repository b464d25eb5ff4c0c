"""appliance.telemetry.metrics and snapshot_metrics, read as Prometheus does"""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from appliance.telemetry import metrics as module
from appliance.telemetry.metrics import Metrics
from appliance.telemetry.snapshot import (
    AlertFigures,
    AllowEntryFigures,
    AuditFigures,
    CertificateFigures,
    DeviceShare,
    GpuFigures,
    HostFigures,
    ListenerFigures,
    ModelFigures,
    Snapshot,
)
from tests.unit.telemetry.making import record

# What dashboards and rules are written against.
NAMES = [
    "time_to_first_token_seconds",
    "inter_token_latency_seconds",
    "request_time_per_output_token_seconds",
    "e2e_request_latency_seconds",
    "request_queue_time_seconds",
    "request_prefill_time_seconds",
    "request_decode_time_seconds",
    "request_prompt_tokens",
    "request_generation_tokens",
    "prompt_tokens",
    "prompt_tokens_cached",
    "generation_tokens",
    "request_success",
    "request_errors",
    "http_requests",
    "num_requests_running",
    "num_requests_waiting",
    "queue_limit",
    "kv_cache_usage_ratio",
    "slots",
    "model_state",
    "model_memory_bytes",
    "model_load_duration_seconds",
    "gpu_memory_used_bytes",
    "gpu_memory_total_bytes",
    "gpu_utilization_ratio",
    "gpu_temperature_celsius",
    "gpu_power_watts",
    "gpu_power_limit_watts",
    "gpu_up",
    "gpu_xid_errors",
    "gpu_ecc_uncorrected_errors",
    "gpu_process_memory_bytes",
    "gpu_memory_unplanned_bytes",
    "gpu_expected",
    "nvml_up",
    "key_tokens",
    "auth_failures",
    "ip_denied",
    "tls_certificate_expiry_timestamp_seconds",
    "api_key_expiry_timestamp_seconds",
    "allowlist_entry_shuts_out",
    "clock_synchronized",
    "disk_free_bytes",
    "admin_actions",
    "audit_write_errors",
    "alert_active",
    "start_time_seconds",
    "build_info",
]

MODEL = ModelFigures(
    id="m",
    state="ready",
    slots=4,
    running=3,
    waiting=2,
    queue_depth_max=64,
    kv_used=0.44,
    load_seconds=3.0,
    devices=(DeviceShare(gpu="GPU-aa", weights_bytes=10, kv_bytes=5), DeviceShare(compute_bytes=1)),
)
GPUS = (
    GpuFigures(
        uuid="GPU-aa", name="Card", total_bytes=80, used_bytes=61, own_bytes=57, other_bytes=4, busy=0.87,
        temperature_celsius=61, power_watts=412.5, power_limit_watts=700.0, ecc_uncorrected=1, xid_errors=2,
    ),
    GpuFigures(uuid="GPU-bb", name="Card", trouble="it fell off"),
    GpuFigures(uuid="MIG-1", name="slice", parent="GPU-bb", total_bytes=10),
)  # fmt: skip
SEEN = Snapshot(
    time=9.0,
    host_name="h",
    version="1",
    started=5.0,
    engine_build="ggml",
    ready=True,
    read_age_seconds=1.0,
    host=HostFigures(clock_synchronized=False, disk_free_bytes=812),
    gpus=GPUS,
    models=(MODEL,),
    allow_ending=(AllowEntryFigures(name="10.0.0.0/8 (api)", until=99.0, addresses=4),),
    certificates=(
        CertificateFigures(name="server", role="server", not_after=77.0),
        CertificateFigures(name="k1", role="api_key", not_after=88.0),
    ),
    listeners=(ListenerFigures(name="api", denied_address=6, open=2),),
    audit=AuditFigures(failures=1, lost=2),
    alerts=(
        AlertFigures(name="GpuHot", what="0", severity="warning", state="firing", since=1.0, summary="hot"),
        AlertFigures(name="AppDown", what="h", severity="critical", state="resolved", since=1.0, summary="up"),
    ),
)


class Scrape:
    """What Prometheus would have after one."""

    def __init__(self, metrics: Metrics) -> None:
        self.families = list(text_string_to_metric_families(metrics.text().decode()))
        self._samples = {
            (sample.name.removeprefix("appliance_"), frozenset(sample.labels.items())): sample.value
            for family in self.families
            for sample in family.samples
        }

    def __call__(self, name: str, **labels: str) -> float | None:
        return self._samples.get((name, frozenset(labels.items())))


def made(seen: Snapshot = SEEN) -> Metrics:
    return Metrics(["/v1/completions", "/v1/models/{model:.+}"], lambda: seen)


def answered(metrics: Metrics, **fields: Any) -> None:
    given = {
        "model": "m",
        "ttft_seconds": 0.3,
        "queue_seconds": 0.1,
        "prefill_seconds": 0.2,
        "decode_seconds": 0.4,
        "finish_reason": "stop",
        "key_id": "k1",
    }
    metrics.saw(record(**{**given, **fields}))


def test_every_name_of_the_list_is_there_once() -> None:
    metrics = made()
    metrics.look(SEEN)
    answered(metrics)
    names = [family.name.removeprefix("appliance_") for family in Scrape(metrics).families]
    assert len(names) == len(set(names))
    assert set(NAMES) <= set(names)
    assert all(family.documentation for family in Scrape(metrics).families)


def test_what_one_answer_counts() -> None:
    metrics = made()
    answered(metrics)
    metrics.sent("m", 0.06, 2)
    seen = Scrape(metrics)
    assert seen("time_to_first_token_seconds_bucket", model_name="m", le="0.25") == 0
    assert seen("time_to_first_token_seconds_bucket", model_name="m", le="0.5") == 1
    assert seen("request_time_per_output_token_seconds_sum", model_name="m") == 0.1
    assert seen("inter_token_latency_seconds_bucket", model_name="m", le="0.05") == 2
    assert seen("request_prompt_tokens_bucket", model_name="m", le="10.0") == 1
    assert seen("prompt_tokens_total", model_name="m") == 10
    assert seen("prompt_tokens_cached_total", model_name="m") == 4
    assert seen("generation_tokens_total", model_name="m") == 5
    assert seen("request_success_total", model_name="m", finished_reason="stop") == 1
    assert seen("key_tokens_total", key_id="k1", token_type="generation") == 5
    assert seen("http_requests_total", route="/v1/completions", method="POST", code="200") == 1


def test_what_others_count() -> None:
    metrics = made()
    answered(metrics, outcome="failed", status=503, error_code="engine_crash")
    answered(metrics, outcome="client_gone", status=0)
    answered(
        metrics, outcome="refused", status=401, error_code="invalid_api_key", path="/.env", method="BREW", model=None
    )
    answered(metrics, mirrored=True)
    answered(metrics, failed_models=("old",), fallback="model")
    metrics.acted("model.load", "allow")
    seen = Scrape(metrics)
    assert seen("request_errors_total", model_name="m", error_type="engine_crash") == 1
    assert seen("request_errors_total", model_name="old", error_type="failed_over") == 1
    assert seen("request_success_total", model_name="m", finished_reason="abort") == 1
    assert seen("http_requests_total", route="/v1/completions", method="POST", code="499") == 1
    assert seen("http_requests_total", route="other", method="other", code="401") == 1
    assert seen("auth_failures_total", reason="invalid_api_key") == 1
    assert seen("admin_actions_total", action="model.load", result="allow") == 1
    assert seen("e2e_request_latency_seconds_count", model_name="m") == 1


def test_the_newest_snapshot() -> None:
    seen = Scrape(made())
    assert seen("num_requests_running", model_name="m") == 3
    assert seen("kv_cache_usage_ratio", model_name="m") == 0.44
    assert (seen("slots", model_name="m", state="busy"), seen("slots", model_name="m", state="idle")) == (3, 1)
    assert seen("model_state", model_name="m", state="ready") == 1
    assert seen("model_state", model_name="m", state="failed") == 0
    assert seen("model_memory_bytes", model_name="m", device="GPU-aa", kind="kv") == 5
    assert seen("model_memory_bytes", model_name="m", device="host", kind="compute") == 1
    assert seen("gpu_memory_used_bytes", gpu="0", uuid="GPU-aa") == 61
    assert seen("gpu_process_memory_bytes", gpu="0", uuid="GPU-aa", owner="other") == 4
    assert seen("gpu_memory_unplanned_bytes", gpu="0", uuid="GPU-aa") == 46
    assert seen("gpu_xid_errors_total", gpu="0", uuid="GPU-aa") == 2
    assert (seen("gpu_up", gpu="0", uuid="GPU-aa"), seen("gpu_up", gpu="1", uuid="GPU-bb")) == (1, 0)
    assert seen("gpu_memory_used_bytes", gpu="1", uuid="GPU-bb") is None
    assert seen("gpu_memory_total_bytes", gpu="1/0", uuid="MIG-1") == 10
    assert (seen("nvml_up"), seen("gpu_expected"), seen("clock_synchronized")) == (1, 0, 0)
    assert seen("disk_free_bytes", path="state") == 812
    assert seen("tls_certificate_expiry_timestamp_seconds", cert="server", role="server") == 77
    assert seen("api_key_expiry_timestamp_seconds", key_id="k1") == 88
    assert seen("allowlist_entry_shuts_out", entry="10.0.0.0/8 (api)") == 4
    assert seen("ip_denied_total", listener="api") == 6
    assert seen("audit_write_errors_total") == 3
    assert seen("alert_active", alert="GpuHot", severity="warning") == 1
    assert seen("alert_active", alert="AppDown", severity="critical") is None
    assert seen("build_info", version="1", engine="ggml") == 1
    assert seen("start_time_seconds") == 5


def test_each_load_counts_once() -> None:
    metrics = made()
    for seconds, state in ((3.0, "ready"), (3.0, "draining"), (None, "stopped"), (4.0, "ready")):
        metrics.look(replace(SEEN, models=(replace(MODEL, state=state, load_seconds=seconds),)))
    assert Scrape(metrics)("model_load_duration_seconds_count", model_name="m") == 2


def test_names_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MODELS_MAX", 1)
    monkeypatch.setattr(module, "KEYS_MAX", 1)
    metrics = made()
    for number in range(3):
        answered(metrics, model=f"m{number}", key_id=f"k{number}")
    seen = Scrape(metrics)
    assert seen("prompt_tokens_total", model_name="m0") == 10
    assert seen("prompt_tokens_total", model_name="other") == 20
    assert seen("key_tokens_total", key_id="other", token_type="prompt") == 20
