"""Reads of the machine what the verdicts need. Thin: nothing here decides. Blocking; nothing raises."""

from __future__ import annotations

import contextlib
import grp
import os
import platform
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from appliance.doctor.host import Cpu, DeviceNode, Disk, Engine, Gpus
from appliance.safe_text import safe_text

_CPUINFO: Final = Path("/proc/cpuinfo")
_DRIVER: Final = Path("/proc/driver/nvidia/version")
_PCI: Final = Path("/sys/bus/pci/devices")
_NVIDIA: Final = "0x10de"
_DISPLAY_CLASS: Final = "0x03"
_ENGINE_COMMAND: Final = (sys.executable, "-m", "appliance.engine.runner.features")
_ENGINE_SECONDS_MAX: Final = 60.0


def read_cpu(source: Path = _CPUINFO) -> Cpu:
    """The first processor; all of a machine are alike."""
    found: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in source.read_text(errors="replace").partition("\n\n")[0].splitlines():
            name, _, value = line.partition(":")
            found.setdefault(name.strip().lower(), value.strip())
    name = found.get("model name") or platform.processor() or platform.machine()
    return Cpu(name=safe_text(name, 128), flags=frozenset((found.get("flags") or found.get("features", "")).split()))


def read_engine(environment: Mapping[str, str], command: Sequence[str] = _ENGINE_COMMAND) -> Engine:
    """Asks llama.cpp in a process of its own: it may not be able to run here at all. environment: of a worker."""
    try:
        done = subprocess.run(
            command, env=dict(environment), capture_output=True, timeout=_ENGINE_SECONDS_MAX, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Engine(trouble=safe_text(str(error)))
    if done.returncode == -signal.SIGILL:
        return Engine(trouble="illegal instruction", crashed=True)
    try:
        said = msgspec.json.decode(done.stdout, type=dict[str, str | list[str]])
        return Engine(build=str(said["build"]), features=frozenset(said["features"]))
    except (msgspec.MsgspecError, KeyError):
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        return Engine(trouble=safe_text(last or f"exit status {done.returncode}"))


def read_disk(folder: Path) -> Disk | None:
    """None where nobody tells."""
    try:
        status = os.statvfs(folder)
    except OSError:
        return None
    return Disk(
        folder=str(folder),
        free_bytes=status.f_bavail * status.f_frsize,
        total_bytes=status.f_blocks * status.f_frsize,
        inodes_free=status.f_favail,
        inodes_total=status.f_files,
    )


def read_descriptors() -> int:
    """How many files this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**31 - 1 if soft == resource.RLIM_INFINITY else soft


def read_time_zone(source: Path = Path("/etc/localtime")) -> tuple[str | None, str]:
    """Its name, None where there is none, and the offset now."""
    offset = time.strftime("%z")
    if given := os.environ.get("TZ"):
        return safe_text(given, 64), offset
    try:
        target = str(source.resolve(strict=True))
    except OSError:
        return None, offset
    _, found, name = target.partition("/zoneinfo/")
    return (name if found else time.tzname[0]), offset


def read_gpus(devices: Path = Path("/dev"), driver: Path = _DRIVER, pci: Path = _PCI) -> Gpus:
    """What the bus, the kernel and /dev have of NVIDIA."""
    nodes = []
    for path in sorted((*devices.glob("nvidia[0-9]*"), devices / "nvidiactl", devices / "nvidia-uvm")):
        with contextlib.suppress(OSError):
            status = path.stat()
            usable = os.access(path, os.R_OK | os.W_OK)
            nodes.append(
                DeviceNode(path=str(path), usable=usable, group=_group(status.st_gid), mode=status.st_mode & 0o777)
            )
    module = None
    with contextlib.suppress(OSError, IndexError):
        words = driver.read_text(errors="replace").splitlines()[0].split()
        module = next((safe_text(word, 32) for word in words if word[:1].isdigit() and "." in word), "unknown")
    cards = 0
    for device in pci.glob("*"):
        with contextlib.suppress(OSError):
            nvidia = (device / "vendor").read_text().strip() == _NVIDIA
            cards += nvidia and (device / "class").read_text().startswith(_DISPLAY_CLASS)
    return Gpus(cards=cards, module=module, nodes=tuple(nodes))


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
