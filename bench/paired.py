"""The short rows of the comparison without the machine's drift: everybody is loaded at once and asked in turns.

    python -m bench.paired [--rows one,eight,chats] [--rounds 16] [--kv auto]

In each round every contestant gets the same requests, one contestant after the other in an order drawn anew, while
the others idle. No two rounds have a prompt in common. Ratios are taken within a round; shown are their quartiles. The
long rows stay with bench.compare: what they measure is larger than the drift, and takes minutes a turn.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final, get_args

import uvloop

from appliance.types import KvMode
from bench import llama_build
from bench.appliance_server import running_appliance
from bench.compare import contest_spec, physical_cores
from bench.drive import drive
from bench.figures import Figures, figures_of
from bench.llama_server import running_llama_server
from bench.llama_source import fetch
from bench.rows import OURS, SPLIT, UNIFIED
from bench.server import Server, end_cleanly_on_sigterm
from bench.workload import Workload, chats, distinct


@dataclass(frozen=True, slots=True)
class PairedRow:
    """workload: that of a round, from a text that no other round has. target: least ratio of throughput."""

    title: str
    target: str
    workload: Callable[[str], Workload]


ROWS: Final = {
    "one": PairedRow("one stream", "≥ 0.98", lambda salt: distinct(1, 1, 110, 128, salt)),
    "eight": PairedRow("8 clients", "≥ 1.05", lambda salt: distinct(8, 1, 110, 64, salt)),
    "chats": PairedRow("4-turn chats", "≥ 1.1", lambda salt: chats(salt=salt)),
}


async def measure(servers: Mapping[str, Server], row: PairedRow, rounds: int) -> list[dict[str, Figures]]:
    """What each contestant did in each round. A round before the first warms up. Raises RuntimeError on a failure."""
    source = random.Random(row.title)
    table: list[dict[str, Figures]] = []
    for number in range(rounds + 1):
        workload, figures = row.workload(f"{row.title} {number}"), dict[str, Figures]()
        for name in source.sample(list(servers), len(servers)):
            figures[name] = figures_of(await drive(servers[name], workload))
            if figures[name].errors:
                raise RuntimeError(f"{name} failed {figures[name].errors} requests of round {number}")
        table.append(figures)
    return table[1:]


def report(row: PairedRow, table: Sequence[Mapping[str, Figures]]) -> None:
    """Prints the row."""
    print(f"{row.title}, {len(table)} rounds; target of the throughput against the better mode: {row.target}")
    for name in (OURS, UNIFIED, SPLIT):
        print(f"  {name:30}{statistics.median(figures[name].rate for figures in table):8.1f} tok/s", end="")
        if name == OURS:
            print("   quartiles of ours / theirs:")
            continue
        for title, value in (("throughput", _rate), ("TTFT p50", _ttft), ("inter-token p50", _gap)):
            ratios = [value(figures[OURS]) / value(figures[name]) for figures in table]
            quartiles = statistics.quantiles(ratios, method="inclusive")
            print(f"   {title} {' / '.join(f'{ratio:.2f}' for ratio in quartiles)}", end="")
        print(flush=True)


def _rate(figures: Figures) -> float:
    return figures.rate


def _ttft(figures: Figures) -> float:
    return figures.ttft.p50


def _gap(figures: Figures) -> float:
    return figures.gap.p50


def main() -> None:
    """Builds what is missing, starts all three, measures and reports."""
    end_cleanly_on_sigterm()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default=",".join(ROWS), help="comma-separated; default %(default)s")
    parser.add_argument("--rounds", type=int, default=16, help="of each row, at least 2; default %(default)s")
    parser.add_argument("--kv", choices=get_args(KvMode), default="auto", help="the appliance's KV mode")
    parser.add_argument("--threads", type=int, default=physical_cores(), help="of all sides")
    arguments = parser.parse_args()
    wanted = arguments.rows.split(",")
    if unknown := [name for name in wanted if name not in ROWS]:
        sys.exit(f"no row {', '.join(unknown)}; rows: {', '.join(ROWS)}")
    spec, binary = contest_spec(arguments.kv, arguments.threads), llama_build.build(fetch())
    with ExitStack() as stack, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        servers: dict[str, Server] = {
            OURS: stack.enter_context(running_appliance(spec)),
            UNIFIED: stack.enter_context(running_llama_server(binary, spec, "unified")),
            SPLIT: stack.enter_context(running_llama_server(binary, spec, "split")),
        }
        for name in wanted:
            report(ROWS[name], runner.run(measure(servers, ROWS[name], max(2, arguments.rounds))))


if __name__ == "__main__":
    main()
