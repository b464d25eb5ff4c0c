"""How fast a model becomes smaller, what that takes, and whether its size was foreseen.

`python -m bench.quantize [FILE.gguf]` prints a row for each type; without a file it makes one of 0.5 B random weights.
Processor time counts, which other work on the machine hardly moves.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np
import psutil

from appliance.config import WorkerLimits
from appliance.gguf.file_types import file_type
from appliance.gguf.header import read_header
from appliance.gguf.quantised import quantised
from appliance.models.launcher import SpawnLauncher
from appliance.models.quantizing import quantize_model
from appliance.types import QuantizeOrder

TYPES: Final = ("q8_0", "q4_0", "q6_k", "q5_k_m", "q4_k_m", "iq4_xs")
LAYERS: Final = 24
EMBEDDING: Final = 1024
FEED_FORWARD: Final = 4096
# A matrix that is larger than the buffers of the quantiser.
VOCABULARY: Final = 65_536
_KV: Final = 256


def build(path: Path) -> None:
    """About 1 GB, as llama.cpp's quantiser sees a model: it needs no vocabulary."""
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(2048)
    writer.add_embedding_length(EMBEDDING)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(16)
    writer.add_head_count_kv(_KV // 64)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCABULARY)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    noise: Any = np.random.default_rng(1).standard_normal(EMBEDDING * VOCABULARY, dtype=np.float32) * np.float32(0.02)
    noise = noise.astype(np.float16)

    def matrix(name: str, rows: int, row: int) -> None:
        writer.add_tensor(f"{name}.weight", noise[: rows * row].reshape(rows, row))

    def norm(name: str) -> None:
        writer.add_tensor(f"{name}.weight", np.ones(EMBEDDING, np.float32))

    matrix("token_embd", VOCABULARY, EMBEDDING)
    matrix("output", VOCABULARY, EMBEDDING)
    norm("output_norm")
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        norm(f"{block}attn_norm")
        norm(f"{block}ffn_norm")
        for part, rows in (("q", EMBEDDING), ("k", _KV), ("v", _KV), ("output", EMBEDDING)):
            matrix(f"{block}attn_{part}", rows, EMBEDDING)
        matrix(f"{block}ffn_gate", FEED_FORWARD, EMBEDDING)
        matrix(f"{block}ffn_up", FEED_FORWARD, EMBEDDING)
        matrix(f"{block}ffn_down", EMBEDDING, FEED_FORWARD)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def measure(source: Path, to: str) -> str:
    """A row: type, size, how far off the forecast was, MiB of source per core and second, and most memory.

    Memory is looked at twice a second; it includes mapped pages of the source.
    """
    with source.open("rb") as file:
        foreseen = quantised(read_header(file), file_type(to)).file_bytes
    target = source.with_suffix(f".{to}")
    target.write_bytes(b"")
    order = QuantizeOrder(
        source=str(source),
        target=str(target),
        file_type=file_type(to).number,
        requantize=True,
        threads=1,
        bytes_max=2 * foreseen,
    )
    peak = 0

    def look(bytes_written: int) -> None:
        nonlocal peak
        for worker in psutil.Process().children():
            with contextlib.suppress(psutil.Error):
                peak = max(peak, worker.memory_info().rss)

    before, began = _processor_seconds(), time.monotonic()
    asyncio.run(quantize_model(order, SpawnLauncher(), WorkerLimits(), look))
    seconds, taken = time.monotonic() - began, _processor_seconds() - before
    made = target.stat().st_size
    target.unlink()
    mib = source.stat().st_size / 2**20
    return (
        f"| {to} | {made / 2**20:.1f} MiB | {foreseen - made} bytes | {mib / taken:.1f} | {mib / seconds:.1f} | "
        f"{peak >> 20} MiB |"
    )


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(source: Path) -> None:
    print(f"{source.name}, {source.stat().st_size / 2**20:.1f} MiB, one thread\n")
    print("| to | size | forecast off by | MiB of source per core and second | per second then | most memory |")
    print("|---|---|---|---|---|---|")
    for to in TYPES:
        print(measure(source, to), flush=True)


def main() -> None:
    """One file, every type."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "random-f16.gguf"
        if len(sys.argv) > 1:
            source.symlink_to(Path(sys.argv[1]).resolve())
        else:
            build(source)
        run(source)


if __name__ == "__main__":
    main()
