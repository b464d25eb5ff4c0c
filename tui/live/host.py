"""What a host shows of the appliance without asking it: for the moment in which nothing else answers.

Programs of the host are asked, each with a deadline; one that is missing or may not answer is a fact like any other.
The GPU driver is asked in a process of its own: where it hangs, it hangs alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tui.source import Surroundings
from tui.units import gib, short_gib

UNIT: Final = "appliance.service"
DEADLINE_SECONDS: Final = 3.0
JOURNAL_LINES: Final = 40
API_PORT: Final = 8443
_OUTPUT_BYTES_MAX: Final = 65_536
_LISTENS: Final = "0A"
_PROPERTIES: Final = "LoadState,ActiveState,SubState,Result,NRestarts,StateChangeTimestamp,ExecMainStatus"
_GPU_FIELDS: Final = "index,name,memory.used,memory.total,utilization.gpu,temperature.gpu"


async def look_around(socket: Path) -> Surroundings:
    """socket: the admin API's."""
    shown, said, killed, gpus = await asyncio.gather(
        _run("systemctl", "show", UNIT, "--no-pager", f"--property={_PROPERTIES}"),
        _run("journalctl", "--no-pager", "--quiet", "-o", "short", "-n", str(JOURNAL_LINES), "-u", UNIT),
        _run("journalctl", "--no-pager", "--quiet", "-o", "short", "-k", "-n", "3", "-g", "Out of memory|oom-kill"),
        _run("nvidia-smi", f"--query-gpu={_GPU_FIELDS}", "--format=csv,noheader,nounits"),
    )
    listening = await asyncio.to_thread(_listening)
    facts = [
        ("systemd", *service_of(shown)),
        ("socket", *_socket(socket)),
        ("port", *_port(socket, listening)),
        ("gpu", *gpu_of(gpus)),
        ("disk", *_disk(socket)),
        ("memory", *_memory()),
    ]
    journal = [line for text in (killed, said) if text is not None for line in text.splitlines()]
    return Surroundings(facts=tuple(facts), journal=tuple(journal[-JOURNAL_LINES:]))


def service_of(shown: str | None) -> tuple[str, bool]:
    """What systemd shows of the unit. Pure."""
    if shown is None:
        return "not to be had here: there is no systemctl, or it does not answer", False
    found = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    if found.get("LoadState") != "loaded":
        return f"there is no {UNIT} on this host", False
    state, result = found.get("ActiveState", "-"), found.get("Result", "-")
    words = [f"{UNIT} {state}"]
    if result != "success":
        words.append(f"(Result: {result})")
    if found.get("StateChangeTimestamp"):
        words.append(f"since {found['StateChangeTimestamp']},")
    words.append(f"restarts {found.get('NRestarts', '-')}")
    return " ".join(words), state == "active"


def gpu_of(told: str | None) -> tuple[str, bool]:
    """What nvidia-smi says. Pure."""
    if told is None:
        return "nvidia-smi does not answer: no GPU, or no driver", True
    cards = [[cell.strip() for cell in row.split(",")] for row in told.splitlines() if row.count(",") >= 5]
    said = [f"GPU {card[0]} used {card[2]} of {card[3]} MiB, {card[4]}%, {card[5]}C" for card in cards]
    return "; ".join(said) or "nvidia-smi names no GPU", bool(cards)


def listening_ports(table: str) -> set[int]:
    """The ports in a table of /proc/net/tcp on which somebody listens. Pure."""
    rows = (row.split() for row in table.splitlines()[1:])
    return {int(row[1].rpartition(":")[2], 16) for row in rows if len(row) > 3 and row[3] == _LISTENS}


def _listening() -> set[int] | None:
    ports: set[int] = set()
    try:
        for name in ("tcp", "tcp6"):
            with contextlib.suppress(FileNotFoundError):
                ports |= listening_ports(Path("/proc/net", name).read_text())
    except (OSError, ValueError):
        return None
    return ports


def _socket(socket: Path) -> tuple[str, bool]:
    try:
        there = socket.is_socket()
    except OSError as error:
        return f"{socket}: {error.strerror}", False
    return (f"{socket} is there, and nobody answers" if there else f"{socket} is not there"), False


def _port(socket: Path, listening: set[int] | None) -> tuple[str, bool]:
    port = API_PORT
    with contextlib.suppress(OSError, UnicodeDecodeError):
        # The daemon writes beside its socket where it serves.
        found = re.search(r":(\d{1,5})(?:/|$)", socket.with_name("api.url").read_text()[:300])
        port = int(found[1]) if found else port
    if listening is None:
        return f"{port}: nobody tells who listens here", False
    return (f"{port} listening", True) if port in listening else (f"{port} not listening", False)


def _disk(socket: Path) -> tuple[str, bool]:
    for folder in socket.parents:
        try:
            usage = shutil.disk_usage(folder)
        except OSError:
            continue
        return f"{short_gib(usage.free)} free of {short_gib(usage.total)}", usage.free > usage.total // 50
    return "nobody tells", False


def _memory() -> tuple[str, bool]:
    found = dict(_meminfo())
    total, free = found.get("MemTotal"), found.get("MemAvailable")
    if total is None or free is None:
        return "nobody tells", False
    return f"{gib(free)} GiB available of {gib(total)}", free > total // 20


def _meminfo() -> Iterator[tuple[str, int]]:
    with contextlib.suppress(OSError, ValueError):
        for row in Path("/proc/meminfo").read_text().splitlines():
            name, _, rest = row.partition(":")
            yield name, int(rest.split()[0]) * 1024


async def _run(*command: str) -> str | None:
    """What a program prints; None where it is missing, fails, or takes too long."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return None
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert process.stdout is not None
            told = await process.stdout.read(_OUTPUT_BYTES_MAX)
            # What is more than that is not waited for.
            await process.communicate()
    except TimeoutError:
        return None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return told.decode(errors="replace") if process.returncode == 0 else None
