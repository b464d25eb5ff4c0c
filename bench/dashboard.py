"""What the dashboard costs: the real app in a real terminal of its own, at 160x45.

    python -m bench.dashboard            at 2 Hz, 10 requests/s, 10,000 rows: processor time, memory, key latency
    python -m bench.dashboard --load     how long a list takes to load 10,000 and 100,000 rows

Processor time is of the dashboard alone, and counts on a busy machine too; latency there is what it is.
"""

from __future__ import annotations

import argparse
import time
from datetime import UTC
from pathlib import Path
from statistics import quantiles

from appliance.telemetry.request_record import RequestRecord
from bench.terminal import Terminal
from tui.app import Dashboard, Options
from tui.demo.scenario import scenario_of
from tui.demo.source import DemoSource
from tui.demo.world import World
from tui.glyphs import UTF8
from tui.look import Look
from tui.process import command
from tui.widgets.ring import Ring

WIDTH, HEIGHT = 160, 45
ROWS = 10_000
REQUESTS_PER_SECOND = 10.0
UPDATES_PER_SECOND = 2.0
SETTLE_SECONDS = 8.0
KEYS = 60
KEY_SECONDS = 0.15


def serve_dashboard() -> None:
    """In the child: the app itself."""
    source = DemoSource(
        interval=1 / UPDATES_PER_SECOND,
        requests_per_second=REQUESTS_PER_SECOND,
        history_seconds=int(ROWS / REQUESTS_PER_SECOND),
    )
    Dashboard(source, Look(UTF8, UTC), Options(rate=UPDATES_PER_SECOND)).run()


def running(seconds: float) -> None:
    """Prints what it costs while figures and requests come in."""
    code = f"sys.path.insert(0, {str(Path.cwd())!r}); from bench.dashboard import serve_dashboard; serve_dashboard()"
    # As `appliance top` starts it, where it watches through the Unix socket.
    terminal = Terminal(command(code, tls=False), WIDTH, HEIGHT)
    terminal.read(SETTLE_SECONDS)
    for screen, key in (("overview", "1"), ("requests, following", "3")):
        terminal.press(key)
        terminal.read(2.0)
        before, sent, began = terminal.cpu_seconds(), terminal.bytes, time.perf_counter()
        terminal.read(seconds)
        took = time.perf_counter() - began
        print(
            f"{screen:<20} {(terminal.cpu_seconds() - before) / took * 100:4.1f} % of a core   "
            f"{terminal.rss_mb():5.1f} MB   {(terminal.bytes - sent) / took / 1000:5.1f} kB/s to the terminal"
        )
    terminal.press("j")
    terminal.read(1.0)
    waits = []
    for number in range(KEYS):
        terminal.press("jk"[number % 4 // 2])
        wait = terminal.read(2.0, until=b">")
        waits.append(2.0 if wait is None else wait)
        terminal.read(KEY_SECONDS)
    cuts = quantiles(waits, n=20)
    print(f"cursor key to the terminal: p50 {cuts[9] * 1000:.1f} ms   p95 {cuts[18] * 1000:.1f} ms   ({KEYS} keys)")
    terminal.close()


def loading() -> None:
    """Prints how long lists take that are in memory already, without the screen."""
    world = World(1, scenario_of("calm"), 1.8e9)
    some: list[RequestRecord] = []
    second = 1_800_000_000
    while len(some) < ROWS:
        some.extend(world.requests(second))
        second += 1
    for count in (10_000, 100_000):
        rows = (some * (count // ROWS + 1))[:count]
        ring: Ring[RequestRecord] = Ring(count)
        began = time.perf_counter()
        ring.extend(rows)
        loaded = time.perf_counter() - began
        began = time.perf_counter()
        ring.select(lambda record: record.status >= 400)
        filtered = time.perf_counter() - began
        began = time.perf_counter()
        ring.extend(rows[:10])
        appended = time.perf_counter() - began
        print(
            f"{count:>7} rows: load {loaded * 1000:.1f} ms   filter {filtered * 1000:.1f} ms   "
            f"10 more {appended * 1e6:.0f} us"
        )


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--load", action="store_true")
    parser.add_argument("--seconds", type=float, default=15.0)
    arguments = parser.parse_args()
    if arguments.load:
        loading()
    else:
        running(arguments.seconds)


if __name__ == "__main__":
    main()
