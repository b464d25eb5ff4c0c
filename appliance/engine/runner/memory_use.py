"""What this process holds in memory, set beside what llama.cpp says it has allocated."""

from __future__ import annotations

import psutil

from appliance.types import EngineBuffer, MemoryUse


def memory_use(buffers: tuple[EngineBuffer, ...]) -> MemoryUse:
    """Of this process now, after a load and its first step."""
    resident = int(psutil.Process().memory_info().rss)
    # A compute buffer is resident only as far as a prompt has filled it.
    held = sum(buffer.bytes for buffer in buffers if buffer.device.startswith("CPU") and buffer.kind != "compute")
    return MemoryUse(resident_bytes=resident, process_bytes=max(0, resident - held), buffers=buffers)
