"""From the checked-out commit to a signed bundle, step by step."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from packaging.utils import parse_wheel_filename

from release.engine_source import engine_source
from release.engine_wheel import build_engine_wheel
from release.inventory import write_inventory
from release.library_needs import library_needs
from release.lock import Pin, pins
from release.seal import seal
from release.signing import public_pem
from release.wheels import download, requirements
from release.zipapp import write_zipapp

INSTALLER: Final = "appliance-setup"
ENGINE: Final = "llama-cpp-python"
_PRODUCT: Final = "llm-appliance"
_MACHINE: Final = "x86_64"
# The oldest driver that has CUDA 13.
_DRIVER_MIN: Final = {"cpu": None, "cuda13": "580.65"}
# Libraries that come with the driver.
_DRIVER_LIBRARIES: Final = frozenset({"libcuda.so.1"})
# Python's compiled files beside what wheels hold.
_COMPILED_FACTOR: Final = 1.3


@dataclass(frozen=True, slots=True)
class Order:
    """out: the folder for the bundle and what it is made of. engine_wheel: where it is not to be built here.

    backend: what the engine wheel computes with. pythons: those that a host may have, as "3.11".
    """

    out: Path
    key: Ed25519PrivateKey
    engine_wheel: Path | None
    backend: Literal["cpu", "cuda13"]
    pythons: tuple[str, ...]


def make_bundle(order: Order) -> Path:
    """The bundle's path. Raises CalledProcessError, and ValueError where order and sources do not fit together."""
    out = order.out.resolve()
    source, stage = out / "source", out / f"stage-{order.backend}"
    for folder in (source, stage):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    commit, epoch = _export(source)
    engine = order.engine_wheel or _engine_wheel(out, source, epoch)
    wheels = stage / "wheels"
    wheels.mkdir()
    shutil.copy2(engine, wheels / engine.name)
    product = _product_wheel(source, wheels, epoch)
    _collect(order, source, out / "downloads", stage, {ENGINE: wheels / engine.name, _PRODUCT: product})
    _copy_rest(order, source, stage)
    about = tomllib.loads((source / "pyproject.toml").read_text())
    version = about["project"]["version"]
    carried = sorted(wheels.glob("*.whl"))
    write_inventory(version, carried, stage)
    facts = {"version": version, "commit": commit, **about["tool"]["release"], **_needs(order, carried)}
    bundle = out / f"{_PRODUCT}-{version}-linux-{_MACHINE}-{order.backend}.tar"
    seal(stage, facts, order.key, bundle)
    return bundle


def _export(source: Path) -> tuple[str, int]:
    """The commit's files, without what lies about beside them; its id and its time."""
    archive = subprocess.run(("git", "archive", "HEAD"), check=True, capture_output=True).stdout
    subprocess.run(("tar", "--extract", "--directory", str(source)), input=archive, check=True)
    told = subprocess.run(("git", "log", "-1", "--format=%H %ct"), check=True, capture_output=True, text=True).stdout
    commit, epoch = told.split()
    return commit, int(epoch)


def _engine_wheel(out: Path, source: Path, epoch: int) -> Path:
    (pin,) = (pin for pin in pins(source / "requirements/runtime.lock", "3.11", _MACHINE) if pin.name == ENGINE)
    return build_engine_wheel(engine_source(pin, out / "engine-source"), out / "engine", epoch=epoch)


def _product_wheel(source: Path, to: Path, epoch: int) -> Path:
    # Modes go into the wheel: those of git, whatever the umask here is.
    subprocess.run(("chmod", "--recursive", "u=rwX,go=rX", str(source)), check=True)
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-cache-dir")
    subprocess.run(
        [*pip, "--disable-pip-version-check", "--wheel-dir", str(to), str(source)],
        env={**os.environ, "SOURCE_DATE_EPOCH": str(epoch), "PYTHONWARNINGS": "ignore"},
        check=True,
    )
    (wheel,) = to.glob(f"{_PRODUCT.replace('-', '_')}-*.whl")
    return wheel


def _collect(order: Order, source: Path, downloads: Path, stage: Path, built: dict[str, Path]) -> None:
    """Wheels and requirements for each Python; `downloads` keeps what was fetched."""
    locks = [source / "requirements/runtime.lock"]
    if order.backend == "cuda13":
        locks.append(source / "requirements/cuda13.lock")
    (stage / "requirements").mkdir()
    for python in order.pythons:
        pinned = [pin for lock in locks for pin in pins(lock, python, _MACHINE)]
        got = {**_fetched([pin for pin in pinned if pin.name not in built], python, downloads / python), **built}
        for wheel in got.values():
            if not (stage / "wheels" / wheel.name).exists():
                shutil.copy2(wheel, stage / "wheels" / wheel.name)
        _, version, _, _ = parse_wheel_filename(built[_PRODUCT].name)
        wanted = [*pinned, Pin(_PRODUCT, str(version), frozenset())]
        (stage / "requirements" / f"{python}.txt").write_text(requirements(wanted, got))
    pip = [pin for pin in pins(source / "requirements/build.lock", order.pythons[0], _MACHINE) if pin.name == "pip"]
    for wheel in _fetched(pip, order.pythons[0], downloads / "pip").values():
        shutil.copy2(wheel, stage / "wheels" / wheel.name)


def _fetched(wanted: Sequence[Pin], python: str, folder: Path) -> dict[str, Path]:
    """By name. Nothing is asked of an index where all of it is there from earlier; pip checks hashes either way."""
    folder.mkdir(parents=True, exist_ok=True)
    found = _by_name(folder)
    if {(pin.name, pin.version) for pin in wanted} - {(name, version) for (name, version) in found}:
        shutil.rmtree(folder)
        folder.mkdir()
        download(wanted, python, _MACHINE, folder)
        found = _by_name(folder)
    return {pin.name: found[pin.name, pin.version] for pin in wanted}


def _by_name(folder: Path) -> dict[tuple[str, str], Path]:
    found = {}
    for path in folder.glob("*.whl"):
        name, version, _, _ = parse_wheel_filename(path.name)
        found[str(name), str(version)] = path
    return found


def _copy_rest(order: Order, source: Path, stage: Path) -> None:
    for name in ("docs", "systemd"):
        shutil.copytree(source / name, stage / name)
    for name in ("README.md", "CHANGELOG.md"):
        shutil.copy2(source / name, stage / name)
    write_zipapp(source / "installer", stage / INSTALLER)
    (stage / "release-key.pem").write_bytes(public_pem(order.key))


def _needs(order: Order, wheels: Sequence[Path]) -> dict[str, Any]:
    needs = library_needs(wheels)
    return {
        "machine": _MACHINE,
        "backend": order.backend,
        "pythons": list(order.pythons),
        "glibc": needs.glibc,
        "libraries": [name for name in needs.libraries if name not in _DRIVER_LIBRARIES],
        "driver_min": _DRIVER_MIN[order.backend],
        "disk_bytes": sum(wheel.stat().st_size + int(_unpacked(wheel) * _COMPILED_FACTOR) for wheel in wheels),
    }


def _unpacked(wheel: Path) -> int:
    """Bytes."""
    with zipfile.ZipFile(wheel) as archive:
        return sum(member.file_size for member in archive.infolist())
