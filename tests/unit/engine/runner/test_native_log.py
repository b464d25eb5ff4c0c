"""appliance.engine.runner.native_log, given lines as llama.cpp writes them"""

from __future__ import annotations

import pytest

from appliance.engine.runner.native_log import NativeLog
from appliance.types import EngineBuffer

INFO, WARN, ERROR = 2, 3, 4


def test_sizes_of_buffers_are_kept() -> None:
    log = NativeLog()
    log._take(INFO, b"load_tensors:   CPU_Mapped model buffer size =   258.25 MiB\n", None)
    log._take(INFO, b"llama_kv_cache:      CUDA0 KV buffer size =    96.00 MiB\n", None)
    log._take(INFO, b"llama_kv_cache: size =   96.00 MiB (  8192 cells,  24 layers,  8/1 seqs)\n", None)
    log._take(INFO, b"a: b state buffer size = many MiB\n", None)
    assert log.buffers() == (
        EngineBuffer(device="CPU_Mapped", kind="model", bytes=270_794_752),
        EngineBuffer(device="CUDA0", kind="KV", bytes=96 * 2**20),
    )
    log.forget()
    assert log.buffers() == ()


def test_reasons_are_errors_or_else_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    log = NativeLog()
    log._take(WARN, b"init: odd thing\n", None)
    assert log.reasons() == ["odd thing"]
    log._take(ERROR, b"load: error loading model: broken\n", None)
    assert log.reasons() == ["broken"]
    assert "broken" in capsys.readouterr().err
