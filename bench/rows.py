"""The rows of the comparison: who takes part in each, what is measured, and which ratios come of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import uvloop

from appliance.types import ModelSpec
from bench.appliance_server import running_appliance
from bench.drive import drive
from bench.figures import Figures, figures_of
from bench.flood import OTHER_CLIENT, Flood
from bench.llama_server import running_llama_server
from bench.long_prompt import LongPrompt
from bench.server import Server
from bench.workload import Workload, chats, dify, dify_mixed, distinct

OURS: Final = "appliance"
UNIFIED: Final = "llama-server --kv-unified"
SPLIT: Final = "llama-server --no-kv-unified"
ALONE: Final = "another principal, no flood"
ANOTHER: Final = "another principal, flooded"
ONE_QUEUE: Final = "one key and user, flooded"
_SECONDS_MAX: Final = 900
# The machine's speed drifts, and a short row would catch one moment of it.
_SHORT_ROW_TURNS: Final = 3

Table = Mapping[str, Figures]
S = TypeVar("S", bound=Server)


@dataclass(frozen=True, slots=True)
class Ratio:
    """A figure that compares contestants of one turn. target: what it should be; empty where there is none."""

    title: str
    target: str
    of: Callable[[Table], float]


@dataclass(frozen=True, slots=True)
class Row:
    """entries: by contestant, what starts it fresh, measures it and stops it. turns: how often in a repeat."""

    name: str
    title: str
    entries: Mapping[str, Callable[[], Figures]]
    ratios: tuple[Ratio, ...]
    turns: int = 1


def all_rows(spec: ModelSpec, binary: Path, *, quick: bool) -> list[Row]:
    """Every row with one configuration `spec` for all; the flood's has half of its slots and of its cells.

    quick: the same parts with hardly any work, to see that they run.
    """
    contest = _Contest(spec, binary)
    turns = 1 if quick else _SHORT_ROW_TURNS
    return [
        contest.row("one", "one stream", distinct(1, 1, 20, 8) if quick else distinct(1, 2, 110, 128), "≥ 0.98", turns),
        contest.row("eight", "8 clients", distinct(8, 1, 20, 4) if quick else distinct(8, 2, 110, 64), "≥ 1.05", turns),
        contest.row("dify", "dify", dify(2, 2, 4) if quick else dify(), "≥ 1.7", ttft="≤ 0.4"),
        contest.row("dify-mixed", "dify-mixed", dify_mixed(2, 2, 4) if quick else dify_mixed(), "≥ 1.7", ttft="≤ 0.4"),
        contest.row("chats", "4-turn chats", chats(2, 2, 4) if quick else chats(), "≥ 1.1"),
        _flood(spec, Flood.of(12, 8, 3, 20) if quick else Flood.of()),
        contest.long_prompt(LongPrompt.of(2, 40, 300, 5) if quick else LongPrompt.of()),
    ]


class _Contest:
    """The three contestants with one configuration."""

    def __init__(self, spec: ModelSpec, binary: Path) -> None:
        self._spec = spec
        self._binary = binary

    def row(self, name: str, title: str, workload: Workload, rate: str, turns: int = 1, ttft: str = "") -> Row:
        async def measure(server: Server) -> Figures:
            return figures_of(await drive(server, workload))

        ratios = (Ratio("throughput", rate, _rate_ratio), Ratio("TTFT p95", ttft, _ttft_ratio))
        return Row(name, title, self._entries(measure), ratios, turns)

    def long_prompt(self, measured: LongPrompt) -> Row:
        entries = self._entries(measured.measure)
        ratios = tuple(
            Ratio(f"inter-token p99 during / before, {name}", "≤ 3" if name == OURS else "", _stutter(name))
            for name in entries
        )
        return Row("long-prompt", "long prompt", entries, ratios)

    def _entries(self, measure: Callable[[Server], Coroutine[None, None, Figures]]) -> dict[str, Callable[[], Figures]]:
        return {
            OURS: _entry(lambda: running_appliance(self._spec), measure),
            UNIFIED: _entry(lambda: running_llama_server(self._binary, self._spec, "unified"), measure),
            SPLIT: _entry(lambda: running_llama_server(self._binary, self._spec, "split"), measure),
        }


def _flood(spec: ModelSpec, flood: Flood) -> Row:
    half = msgspec.structs.replace(spec, parallel=spec.parallel // 2, n_ctx=spec.n_ctx // 2)
    measures = {ALONE: flood.alone, ANOTHER: flood.from_another, ONE_QUEUE: flood.from_the_same}
    return Row(
        "flood",
        "flood",
        {name: _entry(lambda: running_appliance(half, (OTHER_CLIENT,)), measure) for name, measure in measures.items()},
        (
            Ratio("TTFT p95 of another principal / without flood", "≤ 4", _p95_ratio(ALONE)),
            Ratio("TTFT p95 of another principal / in one queue", "≤ 0.2", _p95_ratio(ONE_QUEUE)),
        ),
    )


def _entry(
    start: Callable[[], AbstractContextManager[S]], measure: Callable[[S], Coroutine[None, None, Figures]]
) -> Callable[[], Figures]:
    async def limited(server: S) -> Figures:
        async with asyncio.timeout(_SECONDS_MAX):
            return await measure(server)

    def run() -> Figures:
        with start() as server, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            figures = runner.run(limited(server))
            return msgspec.structs.replace(figures, peak_mib=server.peak_mib())

    return run


def _rate_ratio(table: Table) -> float:
    """Against the faster mode."""
    return table[OURS].rate / max(table[UNIFIED].rate, table[SPLIT].rate)


def _ttft_ratio(table: Table) -> float:
    """Against the mode with the lower TTFT p95, which need not be the faster one."""
    return table[OURS].ttft.p95 / min(table[UNIFIED].ttft.p95, table[SPLIT].ttft.p95)


def _stutter(name: str) -> Callable[[Table], float]:
    def ratio(table: Table) -> float:
        figures = table[name]
        assert figures.gap_before is not None, "the row measures it"
        return figures.gap.p99 / figures.gap_before.p99

    return ratio


def _p95_ratio(base: str) -> Callable[[Table], float]:
    return lambda table: table[ANOTHER].ttft.p95 / table[base].ttft.p95
