"""Probes of the machine: on made-up files, and once on the real ones."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from appliance.doctor import host_probe


def test_the_processor(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: pni avx2\n\nprocessor\t: 1\nflags: none\n")
    found = host_probe.read_cpu(file)
    assert found.name == "Some CPU" and found.flags == {"pni", "avx2"}
    assert host_probe.read_cpu(tmp_path / "none").flags == frozenset()


def test_the_engine_is_asked_in_a_process_of_its_own() -> None:
    said = host_probe.read_engine(
        dict(os.environ), (sys.executable, "-S", "-c", """print('{"build": "b", "features": ["AVX"]}')""")
    )
    assert said.build == "b" and said.features == {"AVX"} and said.trouble is None
    dead = host_probe.read_engine(
        {}, (sys.executable, "-S", "-c", f"import os; os.kill(os.getpid(), {int(signal.SIGILL)})")
    )
    assert dead.crashed
    failed = host_probe.read_engine({}, (sys.executable, "-S", "-c", "raise OSError('no \\x1b library')"))
    assert failed.trouble is not None and "no \\x1b library" in failed.trouble
    assert host_probe.read_engine({}, ("/none/at/all",)).trouble is not None


def test_gpus(tmp_path: Path) -> None:
    devices, pci, driver = tmp_path / "dev", tmp_path / "pci", tmp_path / "version"
    devices.mkdir()
    for name in ("nvidia0", "nvidiactl", "nvidia-caps"):
        (devices / name).touch(mode=0o600)
    for number, (vendor, kind) in enumerate((("0x10de", "0x030200"), ("0x10de", "0x040300"), ("0x8086", "0x030000"))):
        folder = pci / str(number)
        folder.mkdir(parents=True)
        (folder / "vendor").write_text(f"{vendor}\n")
        (folder / "class").write_text(f"{kind}\n")
    driver.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5\n")
    found = host_probe.read_gpus(devices, driver, pci)
    assert (found.cards, found.module) == (1, "550.54.15")
    assert [Path(one.path).name for one in found.nodes] == ["nvidia0", "nvidiactl"]
    nothing = host_probe.read_gpus(tmp_path / "a", tmp_path / "b", tmp_path / "c")
    assert (nothing.cards, nothing.module, nothing.nodes) == (0, None, ())


def test_a_time_zone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TZ", raising=False)
    zone = tmp_path / "zoneinfo" / "Asia" / "Shanghai"
    zone.parent.mkdir(parents=True)
    zone.touch()
    link = tmp_path / "localtime"
    link.symlink_to(zone)
    assert host_probe.read_time_zone(link)[0] == "Asia/Shanghai"
    assert host_probe.read_time_zone(tmp_path / "none")[0] is None


def test_this_machine(tmp_path: Path) -> None:
    assert host_probe.read_cpu().flags
    disk = host_probe.read_disk(tmp_path)
    assert disk is not None and 0 < disk.free_bytes <= disk.total_bytes
    assert host_probe.read_disk(tmp_path / "none") is None
    assert host_probe.read_descriptors() > 0
    host_probe.read_gpus()
