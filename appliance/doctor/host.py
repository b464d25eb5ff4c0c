"""Verdicts on the machine: processor, clock, disk, descriptors, GPU driver. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from appliance.access_config import Audit
from appliance.config import Config
from appliance.doctor.verdict import Verdict, error, fine, warning
from appliance.types import HardwareReading

# What llama.cpp calls a feature it was compiled to use, and what Linux calls it.
FEATURES: Final[Mapping[str, frozenset[str]]] = {
    "SSE3": frozenset({"pni"}),
    "SSSE3": frozenset({"ssse3"}),
    "AVX": frozenset({"avx"}),
    "AVX2": frozenset({"avx2"}),
    "F16C": frozenset({"f16c"}),
    "FMA": frozenset({"fma"}),
    "BMI2": frozenset({"bmi2"}),
    "AVX_VNNI": frozenset({"avx_vnni"}),
    "AVX512": frozenset({"avx512f", "avx512cd", "avx512vl", "avx512dq", "avx512bw"}),
    "AVX512_VBMI": frozenset({"avx512vbmi"}),
    "AVX512_VNNI": frozenset({"avx512_vnni"}),
    "AVX512_BF16": frozenset({"avx512_bf16"}),
    "AMX_INT8": frozenset({"amx_int8", "amx_tile"}),
    "NEON": frozenset({"asimd"}),
    "DOTPROD": frozenset({"asimddp"}),
    "MATMUL_INT8": frozenset({"i8mm"}),
    "SVE": frozenset({"sve"}),
}
# Without these an answer takes several times as long.
_NEEDED: Final = ("AVX2", "FMA", "F16C")
# Beside the connections: models, workers, the log files, what Python holds open.
_OTHER_DESCRIPTORS: Final = 256
_INODES_MIN: Final = 10_000
_GIB: Final = 2**30


class Cpu(Struct, frozen=True, kw_only=True):
    """name, flags: as /proc/cpuinfo has them."""

    name: str
    flags: frozenset[str]


class Engine(Struct, frozen=True, kw_only=True):
    """What llama.cpp was built with; trouble: why it cannot be asked. crashed: it met an instruction it may not use."""

    build: str = ""
    features: frozenset[str] = frozenset()
    trouble: str | None = None
    crashed: bool = False


class Disk(Struct, frozen=True, kw_only=True):
    """The file system that a folder is on. inodes_total: 0 where it has none to run out of."""

    folder: str
    free_bytes: int
    total_bytes: int
    inodes_free: int
    inodes_total: int


class DeviceNode(Struct, frozen=True, kw_only=True):
    """A GPU's file in /dev. usable: by the user that asks. group: whose it is."""

    path: str
    usable: bool
    group: str
    mode: int


class Gpus(Struct, frozen=True, kw_only=True):
    """cards: NVIDIA GPUs that the bus shows. module: the driver's version that is loaded, None without one."""

    cards: int
    module: str | None
    nodes: tuple[DeviceNode, ...]


def cpu_verdict(cpu: Cpu, engine: Engine) -> Verdict:
    """Whether llama.cpp was built for this processor."""
    if engine.crashed:
        return error(
            "cpu",
            f"llama.cpp was built for another processor than {cpu.name} and cannot run here",
            "reinstall the package for this processor, or build it here: `make clean setup`",
        )
    if engine.trouble is not None:
        return error("cpu", f"llama.cpp cannot be started: {engine.trouble}", "reinstall the package")
    has = {name for name, flags in FEATURES.items() if flags <= cpu.flags}
    if lacking := [name for name in FEATURES if name in engine.features and name not in has]:
        return error(
            "cpu",
            f"llama.cpp was built to use {', '.join(lacking)}, which {cpu.name} does not have",
            "reinstall the package for this processor, or build it here: `make clean setup`",
        )
    if unused := [name for name in _NEEDED if name in has and name not in engine.features]:
        return warning(
            "cpu",
            f"llama.cpp was built without {', '.join(unused)}, which {cpu.name} has",
            "reinstall the package for this processor: it would be several times as fast without a GPU",
        )
    used = ", ".join(name for name in FEATURES if name in engine.features) or "no vector instructions"
    if "NEON" not in has and not {"AVX2", "FMA"} <= has:
        return warning(
            "cpu",
            f"{cpu.name} has no AVX2; without a GPU answers are slow",
            "in a virtual machine, let it have the host's processor (`-cpu host`)",
        )
    further = [name for name in ("AVX512", "AVX_VNNI", "AMX_INT8") if name in has and name not in engine.features]
    more = f"; it has {', '.join(further)} too, which this build does not use" if further else ""
    return fine("cpu", f"{cpu.name}: {used}{more}")


def clock_verdict(synchronized: bool | None) -> Verdict:
    """Certificates, keys and the audit log go by the clock."""
    if synchronized is None:
        return warning("clock", "whether the clock is synchronised cannot be asked here", "`timedatectl` says it")
    if synchronized:
        return fine("clock", "the kernel says that it is synchronised")
    return warning(
        "clock",
        "the clock is not synchronised: certificates and keys may end, and be valid, at the wrong time",
        "set up chrony or systemd-timesyncd with a time server of the intranet, then `timedatectl` to look",
    )


def time_zone_verdict(name: str | None, offset: str) -> Verdict:
    """What times in the log and in dashboards are in."""
    if name is None:
        return warning(
            "time_zone",
            "this host has no time zone that can be read; UTC is used",
            "`timedatectl list-timezones`, then `timedatectl set-timezone`",
        )
    return fine("time_zone", f"{name} (UTC{offset}); logs and the audit log are in UTC")


def disk_verdict(disk: Disk, settings: Audit) -> Verdict:
    """Room for what must be recorded."""
    left = f"{disk.free_bytes / _GIB:.1f} of {disk.total_bytes / _GIB:.0f} GiB are free in {disk.folder}"
    make_room = f"make room: `du -xhd1 {disk.folder}`; `appliance models list` shows what models take"
    if disk.free_bytes < settings.disk_min_bytes:
        return error("disk", f"{left}: requests are refused (audit.disk_min_bytes)", make_room)
    if disk.inodes_total and disk.inodes_free < min(_INODES_MIN, disk.inodes_total // 20):
        return error("disk", f"only {disk.inodes_free} files more can be made in {disk.folder}", make_room)
    if disk.free_bytes < settings.disk_warn_bytes:
        return warning("disk", f"{left} (audit.disk_warn_bytes)", make_room)
    return fine("disk", left)


def descriptors_needed(config: Config) -> int:
    """What the daemon may have open at once."""
    return config.connections.connections_max * len(config.listeners) + _OTHER_DESCRIPTORS


def descriptors_verdict(soft: int, needed: int) -> Verdict:
    """Whether as many connections can be open as appliance.yaml allows."""
    if soft >= needed:
        return fine("descriptors", f"a process may have {soft} files open, {needed} are needed at most")
    return warning(
        "descriptors",
        f"a process may have {soft} files open, but {needed} are needed for connections.connections_max",
        f"set `LimitNOFILE={needed}` in the unit (in a shell `ulimit -n {needed}`), or lower connections_max",
    )


def gpu_verdict(gpus: Gpus, reading: HardwareReading | None) -> Verdict:
    """The driver, its devices, and whether the process that reads them may."""
    trouble = None if reading is None else reading.gpu_trouble
    closed = [node for node in gpus.nodes if not node.usable]
    if reading is not None and reading.gpus and not closed:
        driver = "" if gpus.module is None else f", driver {gpus.module}"
        return fine("gpu", ", ".join(gpu.name for gpu in reading.gpus) + driver)
    if gpus.cards == 0 and gpus.module is None and not gpus.nodes:
        return fine("gpu", "no NVIDIA GPU is here: models run on the processor")
    if gpus.module is None:
        return error(
            "gpu",
            f"{_cards(gpus.cards)} here, but the driver's kernel module is not loaded",
            "`modprobe nvidia`; where that fails, `dmesg | grep -i nvrm` says why (new kernel: rebuild the module)",
        )
    if closed:
        return error("gpu", _closed_text(closed), _opening(closed))
    if trouble is not None and "mismatch" in trouble.lower():
        return error(
            "gpu",
            f"the driver was upgraded and the old one is still loaded: {trouble}",
            "reboot, or stop the appliance and load the module anew: `rmmod nvidia_uvm nvidia && modprobe nvidia`",
        )
    if not any(node.path == "/dev/nvidia-uvm" for node in gpus.nodes):
        return error(
            "gpu", "/dev/nvidia-uvm is missing, without which CUDA does not start", "`nvidia-modprobe -u -c=0`"
        )
    if trouble is not None:
        return error("gpu", trouble, "`nvidia-smi` on this host; where it works, compare the unit's DeviceAllow=")
    if reading is None:
        return warning(
            "gpu", "nobody has read the GPUs yet", "ask again in some seconds; else look for the worker in the log"
        )
    return warning("gpu", "the driver is loaded and shows no GPU to this service", "compare CUDA_VISIBLE_DEVICES")


def _cards(count: int) -> str:
    return f"{count or 'an'} NVIDIA GPU{'s are' if count > 1 else ' is'}"


def _closed_text(closed: Sequence[DeviceNode]) -> str:
    return f"this user may not use {', '.join(f'{node.path} (mode {node.mode:04o}, {node.group})' for node in closed)}"


def _opening(closed: Sequence[DeviceNode]) -> str:
    allow = ", ".join(f"DeviceAllow={node.path} rw" for node in closed)
    groups = sorted({node.group for node in closed if node.mode & 0o060 == 0o060 and node.group != "root"})
    if groups:
        return f"put the service's user into the group {' and '.join(groups)}; under systemd also {allow}"
    return f"let the driver make them for everybody (NVreg_DeviceFileMode=0666); under systemd also {allow}"
