"""appliance.worker.host_memory"""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from appliance.worker.host_memory import Room, host_room

MIB = 2**20


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "cgroup"
    path.write_text("12:cpu:/elsewhere\n0::/system.slice/engine.service\n")
    return path


def group(folder: Path, limit: str, used: int, inactive: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {inactive}\n")


def test_without_control_groups_the_machine_is_the_limit(tmp_path: Path) -> None:
    room = host_room(tmp_path, tmp_path / "missing")
    machine = psutil.virtual_memory()
    assert room.total == machine.total and 0 < room.available <= machine.total


def test_the_least_of_all_groups_around_the_process(tmp_path: Path, own: Path) -> None:
    slices = tmp_path / "system.slice"
    group(slices / "engine.service", "max", 5 * MIB)
    group(slices, str(100 * MIB), 60 * MIB, 20 * MIB)
    assert host_room(tmp_path, own) == Room(100 * MIB, 60 * MIB)
    group(slices / "engine.service", str(50 * MIB), 45 * MIB)
    assert host_room(tmp_path, own) == Room(50 * MIB, 5 * MIB)
    group(slices / "engine.service", str(50 * MIB), 60 * MIB)
    assert host_room(tmp_path, own).available == 0


def test_the_root_of_a_container_has_a_limit_too(tmp_path: Path) -> None:
    inside = tmp_path / "own"
    inside.write_text("0::/\n")
    group(tmp_path, str(64 * MIB), 4 * MIB)
    assert host_room(tmp_path, inside) == Room(64 * MIB, 60 * MIB)


@pytest.mark.parametrize("text", ["", "0::/../../etc", "\x00\xff", "9::/a"])
def test_odd_files_are_no_limit(tmp_path: Path, text: str) -> None:
    odd = tmp_path / "own"
    odd.write_text(text)
    assert host_room(tmp_path / "nothing", odd).total == psutil.virtual_memory().total
