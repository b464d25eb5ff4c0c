"""Verdicts on the machine."""

from __future__ import annotations

import pytest

from appliance.access_config import Audit
from appliance.config import Config, ConnectionLimits
from appliance.doctor.host import (
    FEATURES,
    Cpu,
    DeviceNode,
    Disk,
    Engine,
    Gpus,
    clock_verdict,
    cpu_verdict,
    descriptors_needed,
    descriptors_verdict,
    disk_verdict,
    gpu_verdict,
    time_zone_verdict,
)
from appliance.types import GpuReading, HardwareReading, HostReading

V3 = ("SSE3", "SSSE3", "AVX", "AVX2", "F16C", "FMA", "BMI2")
GIB = 2**30


def cpu(*features: str) -> Cpu:
    return Cpu(name="a processor", flags=frozenset().union(*(FEATURES[name] for name in features)))


def engine(*features: str) -> Engine:
    return Engine(build="b", features=frozenset(features))


def test_a_build_for_this_processor() -> None:
    good = cpu_verdict(cpu(*V3), engine(*V3))
    assert good.level == "ok" and "AVX2" in good.found and good.next_step is None
    assert "AVX512 too" in cpu_verdict(cpu(*V3, "AVX512"), engine(*V3)).found


def test_a_build_for_another_processor() -> None:
    for verdict in (
        cpu_verdict(cpu(*V3), engine(*V3, "AVX512")),
        cpu_verdict(cpu(*V3), Engine(trouble="illegal instruction", crashed=True)),
        cpu_verdict(cpu(*V3), Engine(trouble="no module named llama_cpp")),
    ):
        assert verdict.level == "error" and verdict.next_step is not None


def test_a_build_that_is_slow_here() -> None:
    assert "AVX2, FMA" in cpu_verdict(cpu(*V3), engine("SSE3", "AVX")).found
    old = cpu_verdict(cpu("SSE3"), engine("SSE3"))
    assert old.level == "warning" and "no AVX2" in old.found


def test_clock_and_time_zone() -> None:
    assert [clock_verdict(said).level for said in (True, False, None)] == ["ok", "warning", "warning"]
    assert time_zone_verdict("Asia/Shanghai", "+0800").level == "ok"
    assert time_zone_verdict(None, "+0000").level == "warning"


@pytest.mark.parametrize(
    ("free", "inodes", "level"),
    [(100 * GIB, 10**6, "ok"), (GIB, 10**6, "warning"), (2**20, 10**6, "error"), (100 * GIB, 10, "error")],
)
def test_disk(free: int, inodes: int, level: str) -> None:
    disk = Disk(folder="/x", free_bytes=free, total_bytes=200 * GIB, inodes_free=inodes, inodes_total=10**7)
    assert disk_verdict(disk, Audit()).level == level


def test_descriptors() -> None:
    needed = descriptors_needed(Config(connections=ConnectionLimits(connections_max=1000)))
    assert needed == 1256
    assert descriptors_verdict(1024, needed).level == "warning"
    assert descriptors_verdict(1256, needed).level == "ok"


def reading(*names: str, trouble: str | None = None) -> HardwareReading:
    gpus = tuple(GpuReading(uuid=name, name=name, total_bytes=1, free_bytes=1, used_bytes=0) for name in names)
    host = HostReading(total_bytes=GIB, available_bytes=GIB, cpu_busy=0)
    return HardwareReading(host=host, gpus=gpus, gpu_trouble=trouble)


def node(path: str = "/dev/nvidia0", *, usable: bool = True, group: str = "root", mode: int = 0o666) -> DeviceNode:
    return DeviceNode(path=path, usable=usable, group=group, mode=mode)


UVM = node("/dev/nvidia-uvm")


def test_no_gpu_is_no_trouble() -> None:
    assert gpu_verdict(Gpus(cards=0, module=None, nodes=()), reading(trouble="no library")).level == "ok"


def test_a_gpu_that_works() -> None:
    good = gpu_verdict(Gpus(cards=1, module="550.1", nodes=(node(), UVM)), reading("H100"))
    assert (good.level, good.found) == ("ok", "H100, driver 550.1")


@pytest.mark.parametrize(
    ("gpus", "read", "says"),
    [
        (Gpus(cards=1, module=None, nodes=()), reading(trouble="x"), "modprobe nvidia"),
        (Gpus(cards=1, module="5.0", nodes=(node(),)), reading(trouble="Driver/library version mismatch"), "reboot"),
        (Gpus(cards=1, module="5.0", nodes=(node(),)), reading(trouble="x"), "nvidia-modprobe"),
        (Gpus(cards=1, module="5.0", nodes=(node(), UVM)), reading(trouble="x"), "nvidia-smi"),
        (
            Gpus(cards=1, module="5.0", nodes=(node(usable=False, group="video", mode=0o660), UVM)),
            reading(trouble="x"),
            "group video; under systemd also DeviceAllow=/dev/nvidia0 rw",
        ),
        (Gpus(cards=1, module="5.0", nodes=(node(usable=False, mode=0o600),)), reading("H100"), "DeviceFileMode"),
    ],
)
def test_a_gpu_that_does_not(gpus: Gpus, read: HardwareReading, says: str) -> None:
    verdict = gpu_verdict(gpus, read)
    assert verdict.level == "error" and says in (verdict.next_step or "")


def test_a_gpu_that_nobody_sees() -> None:
    here = Gpus(cards=1, module="5.0", nodes=(node(), UVM))
    assert gpu_verdict(here, None).level == "warning"
    assert gpu_verdict(here, reading()).level == "warning"
