"""appliance.engine.runner.build"""

from __future__ import annotations

from appliance import __version__
from appliance.engine.runner.build import _devices, engine_build


def test_it_names_all_that_computes() -> None:
    said = engine_build()
    assert said.startswith(f"appliance {__version__}, llama-cpp-python ")
    assert all(part in said for part in ("llama.cpp ", "ggml ", "commit "))
    assert said.endswith("CPU")
    assert len(said) < 200


def test_devices_are_named_without_their_features() -> None:
    assert _devices(b"CUDA : ARCHS = 890 | USE_GRAPHS = 1 | CPU : SSE3 = 1 | AVX = 1 | ") == "CUDA+CPU"
    assert _devices(b"") == "no device"
