"""How far the estimate of a model's memory is from what it takes.

python -m bench.placement [--simulated] [--real] [--gpu]

Simulated: llama.cpp goes through all allocations of a load without making any (`no_alloc`), for real models' shapes up
to 70B and many settings. Real: the product's own loader in a process of its own, then a prompt as long as a pass, so
that every buffer has been filled; beside llama.cpp's own account stands what the kernel says the process holds.
GPU: the same with all layers on the one GPU; beside the account stands what the driver says the process holds of it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import llama_cpp

from appliance.engine.detokenizer import Detokenizer
from appliance.engine.plan import BatchItem, Done, Plan
from appliance.engine.runner import Runner, load
from appliance.engine.sequence import Sequence
from appliance.gguf.facts import ModelFacts, facts_of
from appliance.gguf.header import read_header
from appliance.models.memory_ledger import device_index, measured
from appliance.placement.estimate import MIB, estimate
from appliance.placement.layout import Layout
from appliance.placement.rules import kv_mode, slots
from appliance.types import ModelSpec, SamplingParams
from appliance.worker.nvml import own_device_bytes
from bench.model_shapes import build_all
from bench.shape_model import build as build_random
from bench.source_archive import BUILD

_CACHE_TYPES: Final = {"f16": 1, "q8_0": 8}
_FLASH: Final = {"auto": -1, "off": 0}
_RE_COMPUTE: Final = re.compile(r"compute buffer size = +([\d.]+)")
_RE_OUTPUT: Final = re.compile(r"output buffer size = +([\d.]+)")
_RE_CACHE: Final = re.compile(r"(?:kv_cache|recurrent)\S*: size = +([\d.]+) MiB")

_REAL: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("random", {}),
    ("random", {"n_ctx": 32_768, "parallel": 4}),
    ("random", {"n_ctx": 32_768, "parallel": 16, "cache_type_k": "q8_0", "cache_type_v": "q8_0"}),
    ("random", {"kv": "split", "parallel": 8, "n_ubatch": 1024}),
    ("random", {"flash_attn": "off", "n_ctx": 2048, "kv": "unified"}),
    ("Qwen2.5-0.5B Q8_0", {}),
    ("Qwen2.5-0.5B Q8_0", {"n_ctx": 16_384, "n_ubatch": 128}),
    ("Llama-3.2-1B", {"n_ctx": 16_384}),
    ("Gemma-3-1B (window)", {}),
    ("Gemma-3-1B (window)", {"n_ctx": 32_768, "parallel": 2}),
    ("LFM2-700M (hybrid)", {}),
    ("LFM2-700M (hybrid)", {"parallel": 16, "flash_attn": "off", "n_ctx": 4096}),
    ("Mamba-2.8B", {"parallel": 8, "n_ubatch": 64}),
)

_GPU: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("Qwen2.5-0.5B Q8_0", {}),
    ("Llama-3.2-1B", {"n_ctx": 131_072, "parallel": 16}),
    ("Gemma-2-2B (window)", {"n_ctx": 16_384}),
    ("LFM2-700M (hybrid)", {"parallel": 16}),
    ("Llama-3.1-8B", {}),
    ("Llama-3.1-8B", {"n_ctx": 131_072, "parallel": 16, "n_ubatch": 1024}),
    ("Llama-3.1-8B", {"n_ctx": 32_768, "cache_type_k": "q8_0", "cache_type_v": "q8_0", "kv": "split", "parallel": 8}),
    ("Llama-3.1-8B", {"n_ctx": 8192, "flash_attn": "off"}),
    ("DeepSeek-V2-Lite (MLA)", {"n_ctx": 16_384}),
    ("Qwen3-30B-A3B", {"n_ctx": 65_536, "parallel": 8}),
    ("Mixtral-8x7B", {"n_ctx": 32_768}),
    ("Llama-3.3-70B", {"n_ctx": 32_768, "parallel": 4}),
)


def main() -> None:
    """Prints the tables, without one of a GPU unless it is asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--simulated", action="store_true")
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(_measure(Path(asked.one[0]), json.loads(asked.one[1]))))
        return
    both = not (asked.simulated or asked.real or asked.gpu)
    paths = build_all(BUILD / "shapes")
    if asked.simulated or both:
        _print_simulated(paths)
    if asked.real or both:
        _print_real(paths | {"random": build_random()})
    if asked.gpu:
        _print_gpu(paths)


def _print_simulated(paths: dict[str, Path]) -> None:
    head = ("shape", "weights, MiB", "settings", "error of the total", "of the compute buffer")
    print(f"| {' | '.join(head)} |\n| {' | '.join(['---'] * len(head))} |")
    log = _Log()
    for name, path in paths.items():
        facts = _facts(path)
        errors, computing = [], []
        for spec, simulated in _simulated(path, facts, log):
            need = estimate(facts, spec)
            errors.append(_error(need.buffers, simulated["total"] + need.weights))
            computing.append(_error(need.compute, simulated["compute"]))
        print(
            f"| {name} | {facts.weight_bytes / MIB:,.0f} | {len(errors)} | {_range(errors)} | {_range(computing)} |",
            flush=True,
        )


def _simulated(path: Path, facts: ModelFacts, log: _Log) -> Iterator[tuple[ModelSpec, dict[str, float]]]:
    model_params = llama_cpp.llama_model_default_params()
    model_params.no_alloc, model_params.load_mode = True, 0
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), model_params)
    assert model, "\n".join(log.lines)
    grid = itertools.product(
        (2048, 8192, 32_768), (128, 512, 1024), (1, 4, 8), ("unified", "split"), _FLASH, _CACHE_TYPES
    )
    for n_ctx, n_ubatch, parallel, kv, flash, cache in grid:
        if flash == "off" and cache != "f16":
            continue
        settings: dict[str, Any] = {"kv": kv, "flash_attn": flash, "cache_type_k": cache, "cache_type_v": cache}
        spec = ModelSpec(id="x", path=str(path), n_ctx=n_ctx, n_ubatch=n_ubatch, parallel=parallel, **settings)
        yield spec, _simulate(model, spec, log)
    llama_cpp.llama_model_free(model)


def _simulate(model: Any, spec: ModelSpec, log: _Log) -> dict[str, float]:
    """Bytes that a context would take, with the loader's parameters."""
    log.lines.clear()
    params = llama_cpp.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_ubatch = spec.n_ctx, spec.n_batch, spec.n_ubatch
    params.n_seq_max = params.n_outputs_max = slots(spec, kv_mode(spec, 0, False))
    params.flash_attn_type = _FLASH[str(spec.flash_attn)]
    params.type_k = params.type_v = _CACHE_TYPES[spec.cache_type_k]
    params.kv_unified, params.swa_full = spec.kv == "unified", True
    context = llama_cpp.llama_init_from_model(model, params)
    assert context, "\n".join(log.lines)
    llama_cpp.llama_free(context)
    text = "".join(log.lines)
    compute, output, cache = (
        sum(float(mib) for mib in pattern.findall(text)) * MIB for pattern in (_RE_COMPUTE, _RE_OUTPUT, _RE_CACHE)
    )
    return {"compute": compute, "total": compute + output + cache}


class _Log:
    """llama.cpp's lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

        def take(_level: int, text: bytes, _data: Any) -> None:
            self.lines.append(text.decode(errors="replace"))

        self._callback = llama_cpp.llama_log_callback(take)
        llama_cpp.llama_log_set(self._callback, None)


def _print_real(paths: dict[str, Path]) -> None:
    head = ("model", "settings", "estimate, MiB", "llama.cpp's buffers and the process", "error", "resident", "error")
    print(f"\n| {' | '.join(head)} |\n| {' | '.join(['---'] * len(head))} |")
    for name, settings in _REAL:
        figures, said = _in_process(paths[name], {"n_gpu_layers": 0, **settings}), _said(settings)
        shown = "Qwen2.5-0.5B Q4_0, random weights" if name == "random" else name
        estimated, account, resident = figures["estimate"], figures["account"], figures["resident"]
        print(
            f"| {shown} | {said} | {estimated / MIB:,.0f} | {account / MIB:,.0f} | {_error(estimated, account):+.1%} | "
            f"{resident / MIB:,.0f} | {_error(estimated, resident):+.1%} |",
            flush=True,
        )


def _print_gpu(paths: dict[str, Path]) -> None:
    head = (
        "model",
        "settings",
        "estimate, MiB",
        "by the driver",
        "error",
        "llama.cpp's buffers",
        "the driver's beyond",
    )
    print(f"\n| {' | '.join(head)} |\n| {' | '.join(['---'] * len(head))} |")
    for name, settings in _GPU:
        figures = _in_process(paths[name], settings)
        estimated, driver, buffers = figures["gpu_estimate"], figures["gpu_driver"], figures["gpu_buffers"]
        print(
            f"| {name} | {_said(settings)} | {estimated / MIB:,.0f} | {driver / MIB:,.0f} | "
            f"{_error(estimated, driver):+.1%} | {buffers / MIB:,.0f} | {(driver - buffers) / MIB:,.0f} |",
            flush=True,
        )


def _in_process(path: Path, settings: dict[str, Any]) -> dict[str, float]:
    """What `_measure` finds, in a process of its own."""
    command = [sys.executable, "-m", "bench.placement", "--one", str(path.resolve()), json.dumps(settings)]
    figures: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return figures


def _said(settings: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in settings.items()) or "defaults"


def _measure(path: Path, settings: dict[str, Any]) -> dict[str, float]:
    """Loads, fills every buffer, and reads what the process holds. In this process, which must be a fresh one."""
    spec = ModelSpec(id="bench", path=str(path), preempt_host_mib=0, **settings)
    facts = _facts(path)
    runner = load(spec, lambda _: None)
    assert runner.info.memory is not None
    _fill(runner, whole=spec.flash_attn == "off")
    need = estimate(facts, spec)
    account = measured(runner.info.memory, need, facts.weight_bytes, ())
    memory = _status()
    copied = sum(buffer.bytes for buffer in runner.info.memory.buffers if buffer.device == "CPU_REPACK")
    mapped = sum(buffer.bytes for buffer in runner.info.memory.buffers if buffer.device == "CPU_Mapped")
    # Mapped weights that were copied are still counted as resident; the kernel takes them back when it needs them.
    resident = memory["RssAnon"] + memory["RssFile"] - min(copied, mapped)
    layout = Layout(need)
    return {
        "estimate": layout.footprint(()).host,
        "account": account.host,
        "resident": resident,
        "gpu_estimate": layout.footprint((layout.items,)).devices[0],
        "gpu_driver": sum(device.bytes for device in own_device_bytes()),
        "gpu_buffers": sum(
            buffer.bytes for buffer in runner.info.memory.buffers if device_index(buffer.device) is not None
        ),
    }


def _fill(runner: Runner, *, whole: bool) -> None:
    """A prompt as long as a pass, or as the context: scores of attention grow with what has been read."""
    limits = runner.limits
    count = limits.n_ctx - 1 if whole else min(limits.n_ubatch, limits.n_ctx - 1)
    tokens = [5] * (count + 1)
    sequence = Sequence(
        number=1, tokens=tokens, output_max=1, sampling=SamplingParams(), detokenizer=Detokenizer(), arrived=0.0
    )
    for start in [*range(0, count, limits.n_ubatch), count]:
        end = min(start + limits.n_ubatch, count) if start < count else count + 1
        item = BatchItem(sequence, 0, start, tokens[start:end], sample=end > count)
        runner.launch(Plan((), (), (item,)))
        assert isinstance(runner.collect(Plan((), (), (item,))), Done), "the prompt had no room"


def _status() -> dict[str, int]:
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {parts[0].rstrip(":"): int(parts[1]) * 1024 for parts in lines if parts[0] in ("RssAnon:", "RssFile:")}


def _facts(path: Path) -> ModelFacts:
    with path.open("rb") as file:
        return facts_of(read_header(file))


def _error(estimated: float, real: float) -> float:
    return estimated / real - 1


def _range(errors: list[float]) -> str:
    return f"{min(errors):+.1%} to {max(errors):+.1%}"


if __name__ == "__main__":
    main()
