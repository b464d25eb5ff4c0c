"""appliance.models.model_figures"""

from __future__ import annotations

from msgspec.structs import replace

from appliance.models.model_figures import device_shares, model_figures
from appliance.models.snapshot import InstanceSnapshot, InstanceState
from appliance.telemetry.snapshot import DeviceShare, ModelFigures, ServingFigures
from appliance.types import DeviceBytes, EngineBuffer, MemoryUse, ModelSpec
from appliance.upstream_spec import UpstreamReplica, UpstreamSpec
from tests.fakes.scripted_worker import INFO

SPEC = ModelSpec(id="m", path="/m.gguf")
STOPPED = InstanceSnapshot(
    state=InstanceState.STOPPED,
    info=None,
    progress=0.0,
    outstanding=0,
    running=0,
    waiting=0,
    kv_cells=0,
    steps=0,
    device_seconds=0.0,
    host_seconds=0.0,
    preemptions=0,
    restarts=0,
    pid=None,
    reason=None,
)
USE = MemoryUse(
    resident_bytes=0,
    process_bytes=0,
    buffers=(
        EngineBuffer(device="CPU_Mapped", kind="model", bytes=100),
        EngineBuffer(device="CUDA0", kind="model", bytes=900),
        EngineBuffer(device="CUDA1", kind="model", bytes=500),
        EngineBuffer(device="CUDA0", kind="KV", bytes=40),
        EngineBuffer(device="CUDA0", kind="RS", bytes=2),
        EngineBuffer(device="CUDA_Host", kind="output", bytes=3),
        EngineBuffer(device="CUDA1", kind="compute", bytes=7),
    ),
)


def figures(seen: InstanceSnapshot, *, failing: bool = False) -> ModelFigures:
    return model_figures(
        SPEC,
        seen,
        ("GPU-aa",),
        ServingFigures(seconds=1.0),
        queue_depth_max=9,
        system_fingerprint="fp_1",
        failing=failing,
    )


def test_what_a_loaded_model_has() -> None:
    info = replace(INFO, n_ctx_total=1000, parallel=4, memory=USE, size_bytes=1500)
    seen = replace(
        STOPPED, state=InstanceState.READY, info=info, kv_cells=250, outstanding=5, running=3, pid=7, idle_seconds=1.234
    )
    found = figures(seen)
    assert (found.state, found.slots, found.kv_used, found.running, found.waiting) == ("ready", 4, 0.25, 3, 2)
    assert (found.queue_depth_max, found.idle_seconds, found.system_fingerprint) == (9, 1.2, "fp_1")
    assert found.progress is None
    assert [share.gpu for share in found.devices] == [None, "CUDA1", "GPU-aa"]


def test_what_one_that_is_not_loaded_has_not() -> None:
    found = figures(replace(STOPPED, info=INFO), failing=True)
    assert (found.state, found.slots, found.kv_used, found.devices, found.idle_seconds) == (
        "stopped",
        None,
        None,
        (),
        None,
    )
    assert found.reason is not None and "keeps failing" in found.reason
    assert figures(replace(STOPPED, state=InstanceState.STARTING, progress=0.5)).progress == 0.5


def test_one_that_is_served_elsewhere() -> None:
    spec = UpstreamSpec(id="u", replicas=(UpstreamReplica(base_url="https://a.example/v1"),))
    seen = replace(STOPPED, state=InstanceState.READY, n_ctx=99)
    found = model_figures(spec, seen, (), None, queue_depth_max=9, system_fingerprint=None, failing=False)
    assert (found.n_ctx, found.base_urls, found.slots) == (99, ("https://a.example/v1",), None)


def test_buffers_by_device() -> None:
    assert device_shares(USE, 1500, ("GPU-aa", "GPU-bb")) == (
        DeviceShare(gpu=None, weights_bytes=100, compute_bytes=3),
        DeviceShare(gpu="GPU-aa", weights_bytes=900, kv_bytes=42),
        DeviceShare(gpu="GPU-bb", weights_bytes=500, compute_bytes=7),
    )


def test_what_the_driver_counts_beyond_the_buffers_is_for_computing() -> None:
    use = replace(USE, devices=(DeviceBytes(uuid="GPU-aa", bytes=1600), DeviceBytes(uuid="GPU-bb", bytes=1)))
    _, first, second = device_shares(use, 1500, ("GPU-aa", "GPU-bb"))
    assert first == DeviceShare(gpu="GPU-aa", weights_bytes=900, kv_bytes=42, compute_bytes=1600 - 942)
    # A driver that counts less has not looked yet.
    assert second == DeviceShare(gpu="GPU-bb", weights_bytes=500, compute_bytes=7)


def test_mapped_weights_that_were_copied_count_once() -> None:
    use = replace(
        USE,
        buffers=(
            EngineBuffer(device="CPU_Mapped", kind="model", bytes=1000),
            EngineBuffer(device="CPU_REPACK", kind="model", bytes=800),
        ),
    )
    assert device_shares(use, 1000, ()) == (DeviceShare(weights_bytes=1000),)
