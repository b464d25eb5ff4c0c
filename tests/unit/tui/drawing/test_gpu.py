"""tui.drawing.gpu"""

from __future__ import annotations

from datetime import UTC

import pytest

from appliance.telemetry.snapshot import DeviceShare, GpuFigures, ModelFigures, Snapshot
from tui.drawing.gpu import gpu_box
from tui.glyphs import ASCII
from tui.lines import texts
from tui.look import Look

GIB = 2**30


def seen(overhead: int) -> Snapshot:
    share = DeviceShare(gpu="GPU-1", weights_bytes=18 * GIB, kv_bytes=32 * GIB, compute_bytes=overhead)
    gpu = GpuFigures(uuid="GPU-1", name="NVIDIA H100 80GB HBM3", total_bytes=80 * GIB, used_bytes=51 * GIB)
    model = ModelFigures(id="qwen3-32b-q4_k_m", state="ready", devices=(share,))
    return Snapshot(time=1.0, host_name="h", version="1", started=0.0, gpus=(gpu,), models=(model,))


@pytest.mark.parametrize(
    ("width", "overhead", "says"),
    [
        (40, 0, "   qwen3-32b~ weights 18.0  kv 32.0   "),
        (40, GIB, "   qwen3-32b~ weights 18.0 kv 32.0+1.0"),
        (80, GIB, "      qwen3-32b-q4_k_m   weights 18.0   kv 32.0   overhead 1.0"),
    ],
)
def test_what_a_model_holds_beside_weights_and_cache_is_not_taken_for_cache(
    width: int, overhead: int, says: str
) -> None:
    drawn = texts(gpu_box(seen(overhead), width, 10, Look(ASCII, UTC)))
    (held,) = [one[1:-1] for one in drawn if "weights" in one]
    assert held.startswith(says.rstrip())
    assert all(len(one) == width for one in drawn)
