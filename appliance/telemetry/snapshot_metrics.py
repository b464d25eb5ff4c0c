"""Prometheus metrics of the newest Snapshot: what is so now, and totals that somebody else counts. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from appliance.telemetry.snapshot import GpuFigures, ModelFigures, ModelState, Snapshot

PREFIX: Final = "appliance_"
# More models, and more keys that end, than these are not told apart.
MODELS_MAX: Final = 64


def snapshot_metrics(seen: Snapshot) -> Iterator[Metric]:
    """Everything but what requests count. What is not known has no sample."""
    yield from _appliance(seen)
    yield from _models(seen.models[:MODELS_MAX])
    yield from _gpus(seen)
    yield from _security(seen)


def _appliance(seen: Snapshot) -> Iterator[Metric]:
    yield _one("start_time_seconds", "When the daemon started, UTC since 1970.", seen.started)
    info = GaugeMetricFamily(PREFIX + "build_info", "1, with what runs here.", labels=["version", "engine"])
    info.add_metric([seen.version, seen.engine_build or ""], 1)
    yield info
    yield _one("ready", "1 while requests are served as GET /readyz says.", seen.ready)
    yield _one("draining", "1 while new requests are refused for maintenance.", seen.draining)
    yield _one("clock_synchronized", "1 while the kernel's clock is kept right.", seen.host.clock_synchronized)
    disk = GaugeMetricFamily(PREFIX + "disk_free_bytes", "Free for the appliance's state.", labels=["path"])
    if seen.host.disk_free_bytes is not None:
        disk.add_metric(["state"], seen.host.disk_free_bytes)
    yield disk
    yield _one("host_cpu_utilization_ratio", "Of all cores, 0 to 1.", seen.host.cpu_busy)
    yield _one("host_memory_total_bytes", "Within the service's limits.", seen.host.memory_total_bytes)
    yield _one("host_memory_available_bytes", "That can be had without swapping.", seen.host.memory_available_bytes)
    yield _count(
        "audit_write_errors", "Commits of the audit log that failed, and records it lost.", seen.audit.write_errors
    )
    active = GaugeMetricFamily(
        PREFIX + "alert_active", "1 for each alert that fires, acknowledged or not.", labels=["alert", "severity"]
    )
    for alert, severity in sorted({(one.name, one.severity) for one in seen.alerts if one.on}):
        active.add_metric([alert, severity], 1)
    yield active


def _models(models: tuple[ModelFigures, ...]) -> Iterator[Metric]:
    yield _each("num_requests_running", "Requests being computed.", models, lambda one: one.running)
    yield _each("num_requests_waiting", "Requests that wait for a slot.", models, lambda one: one.waiting)
    yield _each("queue_limit", "Most requests, running and waiting.", models, lambda one: one.queue_depth_max)
    yield _each("kv_cache_usage_ratio", "Of the KV cells, those in use, 0 to 1.", models, lambda one: one.kv_used)
    slots = GaugeMetricFamily(PREFIX + "slots", "Places for requests at once.", labels=["model_name", "state"])
    states = GaugeMetricFamily(
        PREFIX + "model_state", "1 for the state that a model is in, 0 for others.", labels=["model_name", "state"]
    )
    memory = GaugeMetricFamily(
        PREFIX + "model_memory_bytes", "What a model has allocated.", labels=["model_name", "device", "kind"]
    )
    for one in models:
        if one.slots is not None:
            busy = min(one.running, one.slots)
            slots.add_metric([one.id, "busy"], busy)
            slots.add_metric([one.id, "idle"], one.slots - busy)
        for state in get_args(ModelState):
            states.add_metric([one.id, state], one.state == state)
        for share in one.devices:
            kinds = (("weights", share.weights_bytes), ("kv", share.kv_bytes), ("compute", share.compute_bytes))
            for kind, size in kinds:
                memory.add_metric([one.id, share.gpu or "host", kind], size)
    yield from (slots, states, memory)


_GPU_GAUGES: Final[Mapping[str, tuple[str, str]]] = {
    "gpu_memory_used_bytes": ("In use.", "used_bytes"),
    "gpu_memory_total_bytes": ("All of it.", "total_bytes"),
    "gpu_utilization_ratio": ("Part of the last moments in which it computed, 0 to 1.", "busy"),
    "gpu_temperature_celsius": ("Of the chip.", "temperature_celsius"),
    "gpu_power_watts": ("Drawn now.", "power_watts"),
    "gpu_power_limit_watts": ("Most that it may draw.", "power_limit_watts"),
}


def _gpus(seen: Snapshot) -> Iterator[Metric]:
    yield _one("gpu_expected", "1 where appliance.yaml says that this host has a GPU.", seen.gpus_expected)
    if seen.read_age_seconds is not None:
        yield _one("nvml_up", "1 while the NVIDIA driver answers.", seen.gpu_trouble is None)
    names = list(_gpu_names(seen.gpus))
    for name, (text, field) in _GPU_GAUGES.items():
        yield _per_gpu(GaugeMetricFamily, name, text, [(labels, getattr(gpu, field)) for labels, gpu in names])
    yield _per_gpu(
        GaugeMetricFamily,
        "gpu_up",
        "1 while this GPU can be read.",
        [(labels, gpu.trouble is None) for labels, gpu in names],
    )
    yield _per_gpu(
        CounterMetricFamily,
        "gpu_xid_errors",
        "Faults that the driver has reported.",
        [(labels, gpu.xid_errors) for labels, gpu in names],
    )
    yield _per_gpu(
        CounterMetricFamily,
        "gpu_ecc_uncorrected_errors",
        "Memory errors that could not be corrected, since the driver was loaded.",
        [(labels, gpu.ecc_uncorrected) for labels, gpu in names],
    )
    yield _per_gpu(
        GaugeMetricFamily,
        "gpu_memory_unplanned_bytes",
        "In use beyond what loaded models account for.",
        [(labels, seen.unplanned_bytes(gpu)) for labels, gpu in names],
    )
    owners = GaugeMetricFamily(
        PREFIX + "gpu_process_memory_bytes", "Held by our workers, and by others.", labels=["gpu", "uuid", "owner"]
    )
    for labels, gpu in names:
        for owner, size in (("own", gpu.own_bytes), ("other", gpu.other_bytes)):
            if size is not None:
                owners.add_metric([*labels, owner], size)
    yield owners


def _gpu_names(gpus: tuple[GpuFigures, ...]) -> Iterator[tuple[list[str], GpuFigures]]:
    """Numbers as llama.cpp has them; the instances of GPU 0 are 0/0, 0/1, …"""
    number, instance = -1, 0
    for gpu in gpus:
        if gpu.parent is None:
            number, instance = number + 1, 0
            yield [str(number), gpu.uuid], gpu
        else:
            yield [f"{number}/{instance}", gpu.uuid], gpu
            instance += 1


def _security(seen: Snapshot) -> Iterator[Metric]:
    certificates = GaugeMetricFamily(
        PREFIX + "tls_certificate_expiry_timestamp_seconds",
        "When a certificate ends; the soonest ones, and all of the appliance's own.",
        labels=["cert", "role"],
    )
    keys = GaugeMetricFamily(
        PREFIX + "api_key_expiry_timestamp_seconds", "When an API key ends; the soonest ones.", labels=["key_id"]
    )
    for one in seen.certificates:
        if one.role == "api_key":
            keys.add_metric([one.name], one.not_after)
        else:
            certificates.add_metric([one.name, one.role], one.not_after)
    yield from (certificates, keys)
    shut_out = GaugeMetricFamily(
        PREFIX + "allowlist_entry_shuts_out",
        "Addresses of the last 24 hours that an entry shuts out when it ends, which is within a day.",
        labels=["entry"],
    )
    for entry in seen.allow_ending:
        shut_out.add_metric([entry.name], entry.addresses)
    yield shut_out
    denied = CounterMetricFamily(
        PREFIX + "ip_denied", "Connections that were reset because of their address.", labels=["listener"]
    )
    open_ = GaugeMetricFamily(PREFIX + "connections_open", "Past the TLS handshake.", labels=["listener"])
    for listener in seen.listeners:
        denied.add_metric([listener.name], listener.denied_address)
        open_.add_metric([listener.name], listener.open)
    yield from (denied, open_)


def _one(name: str, text: str, value: float | None) -> Metric:
    family = GaugeMetricFamily(PREFIX + name, text)
    if value is not None:
        family.add_metric([], float(value))
    return family


def _count(name: str, text: str, value: int) -> Metric:
    family = CounterMetricFamily(PREFIX + name, text)
    family.add_metric([], value)
    return family


def _each(name: str, text: str, models: tuple[ModelFigures, ...], read: Any) -> Metric:
    family = GaugeMetricFamily(PREFIX + name, text, labels=["model_name"])
    for one in models:
        if (value := read(one)) is not None:
            family.add_metric([one.id], float(value))
    return family


def _per_gpu(kind: Any, name: str, text: str, values: list[tuple[list[str], Any]]) -> Metric:
    family: Metric = kind(PREFIX + name, text, labels=["gpu", "uuid"])
    for labels, value in values:
        if value is not None:
            family.add_metric(labels, float(value))  # type: ignore[attr-defined]
    return family
