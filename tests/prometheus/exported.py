"""The names of the series that /metrics has."""

from __future__ import annotations

from typing import Final

HISTOGRAMS: Final = (
    "time_to_first_token_seconds",
    "inter_token_latency_seconds",
    "request_time_per_output_token_seconds",
    "e2e_request_latency_seconds",
    "request_queue_time_seconds",
    "request_prefill_time_seconds",
    "request_decode_time_seconds",
    "request_prompt_tokens",
    "request_generation_tokens",
    "model_load_duration_seconds",
)
OTHERS: Final = (
    "prompt_tokens_total",
    "prompt_tokens_cached_total",
    "generation_tokens_total",
    "request_success_total",
    "request_errors_total",
    "http_requests_total",
    "num_requests_running",
    "num_requests_waiting",
    "queue_limit",
    "kv_cache_usage_ratio",
    "slots",
    "model_state",
    "model_memory_bytes",
    "gpu_memory_used_bytes",
    "gpu_memory_total_bytes",
    "gpu_utilization_ratio",
    "gpu_temperature_celsius",
    "gpu_power_watts",
    "gpu_power_limit_watts",
    "gpu_up",
    "gpu_xid_errors_total",
    "gpu_ecc_uncorrected_errors_total",
    "gpu_process_memory_bytes",
    "gpu_memory_unplanned_bytes",
    "gpu_expected",
    "nvml_up",
    "key_tokens_total",
    "auth_failures_total",
    "ip_denied_total",
    "tls_certificate_expiry_timestamp_seconds",
    "api_key_expiry_timestamp_seconds",
    "clock_synchronized",
    "disk_free_bytes",
    "admin_actions_total",
    "audit_write_errors_total",
    "alert_active",
    "start_time_seconds",
    "build_info",
)


def series() -> frozenset[str]:
    """As queries name them."""
    parts = (f"{name}_{part}" for name in HISTOGRAMS for part in ("bucket", "sum", "count"))
    return frozenset(f"appliance_{name}" for name in (*OTHERS, *parts))
