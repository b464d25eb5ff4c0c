"""appliance.engine.runner.native_log, given lines as llama.cpp writes them"""

from __future__ import annotations

import pytest

from appliance.engine.runner.native_log import NativeLog
from appliance.errors import MemoryLack
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


def test_want_of_memory_is_told_with_what_could_not_be_had() -> None:
    log = NativeLog()
    assert log.lack("weights") is None
    log._take(ERROR, b"alloc_buffer: allocating 9.00 MiB on device 0: cudaMalloc failed: out of memory\n", None)
    assert log.lack("weights") == MemoryLack(part="weights")
    log._take(ERROR, b"alloc_tensor_range: failed to allocate CUDA0 buffer of size 9437184\n", None)
    assert log.lack("weights") == MemoryLack(part="weights", device="CUDA0", bytes=9 * 2**20)
    assert log.lack("cache") == MemoryLack(part="cache", device="CUDA0", bytes=9 * 2**20)
    log._take(ERROR, b"ggml_gallocr_reserve_n_impl: failed to allocate CPU buffer of size 4096\n", None)
    log._take(ERROR, b"graph_reserve: failed to allocate compute buffers\n", None)
    assert log.lack("cache") == MemoryLack(part="compute", device="CPU", bytes=4096)


def test_other_errors_are_no_want_of_memory() -> None:
    log = NativeLog()
    log._take(WARN, b"init: failed to allocate something that is tried elsewhere\n", None)
    log._take(ERROR, b"load: error loading model: unknown architecture\n", None)
    assert log.lack("weights") is None
