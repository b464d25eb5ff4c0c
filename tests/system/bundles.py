"""Bundles for tests: that of the checked-out commit, and later releases that differ from it in what a test says."""

from __future__ import annotations

import base64
import csv
import fcntl
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Mapping
from importlib.metadata import distribution
from pathlib import Path
from typing import Final

from installer.manifest import NAME
from installer.signature import fingerprint
from release.bundle import Order, make_bundle
from release.seal import seal
from release.signing import load_key, new_key, public_pem
from tests.system.distributions import DISTRIBUTIONS
from tests.system.product import others

PYTHONS: Final = tuple(each.python for each in DISTRIBUTIONS)
FACTS: Final = (
    *("version", "sequence", "upgrade_from", "state_format", "commit", "machine", "backend", "pythons", "glibc"),
    *("libraries", "driver_min", "disk_bytes"),
)
_ENGINE: Final = "llama-cpp-python"
_VERSION: Final = '__version__ = "{}"'


class Bundles:
    """The commit's bundle, and what is made of it. folder: for all of them; what was downloaded stays in it.

    Other tests' processes wait for the one that makes the commit's, and take it; later ones are of one process.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            key = folder / "signing.key"
            self._key = load_key(key) if key.exists() else new_key(key)
            done = folder / f"{_commit()}.done"
            if not done.exists():
                for old in folder.glob("*.done"):
                    old.unlink()
                order = Order(folder, self._key, engine_wheel(folder), "cpu", PYTHONS)
                done.write_text(str(make_bundle(order)))
            self.first = Path(done.read_text())
        self.facts = _facts(self.first)

    @property
    def fingerprint(self) -> str:
        return fingerprint(public_pem(self._key))

    def later(self, version: str, sequence: int, changes: Mapping[str, str] | None = None, **facts: object) -> Path:
        """Another release. changes: what is appended to which of the product's files."""
        stage = self._folder / f"stage-{version}"
        shutil.rmtree(stage, ignore_errors=True)
        shutil.copytree(self._folder / "stage-cpu", stage)
        (wheel,) = (stage / "wheels").glob("llm_appliance-*.whl")
        name, _, rest = wheel.name.partition("-")
        other = wheel.with_name(f"{name}-{version}-{rest.partition('-')[2]}")
        first = str(self.facts["version"])
        _rewrite(wheel, other, first, version, changes or {})
        digest = hashlib.sha256(other.read_bytes()).hexdigest()
        for wanted in (stage / "requirements").iterdir():
            own = f"llm-appliance=={version} --hash=sha256:{digest}\n"
            wanted.write_text("".join([*others(wanted.read_text()), own]))
        bundle = self.first.with_name(self.first.name.replace(first, version))
        seal(stage, self.facts | {"version": version, "sequence": sequence} | facts, self._key, bundle)
        shutil.rmtree(stage)
        return bundle


def engine_wheel(folder: Path) -> Path:
    """The llama-cpp-python that runs these tests, as a wheel: compiling one for every processor takes too long."""
    found = distribution(_ENGINE)
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f"llama_cpp_python-{found.version}-py3-none-linux_x86_64.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for file in found.files or ():
            source = Path(str(file.locate()))
            if file.parts[0] != ".." and source.is_file() and file.suffix != ".pyc":
                archive.write(source, str(file))
    return wheel


def _commit() -> str:
    return subprocess.run(("git", "rev-parse", "HEAD"), check=True, capture_output=True, text=True).stdout.strip()


def _facts(bundle: Path) -> dict[str, object]:
    with tarfile.open(bundle) as tar:
        manifest = tar.extractfile(NAME)
        assert manifest is not None
        found = json.load(manifest)
    return {name: found[name] for name in FACTS}


def _rewrite(wheel: Path, other: Path, before: str, after: str, changes: Mapping[str, str]) -> None:
    """The same wheel as another version, with additions at the end of files; its record is true again."""
    rows = []
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(other, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            content = source.read(name)
            renamed = name.replace(f"llm_appliance-{before}.dist-info", f"llm_appliance-{after}.dist-info")
            if name.endswith(".dist-info/RECORD"):
                record = renamed
                continue
            if name.endswith(".dist-info/METADATA"):
                content = content.replace(f"Version: {before}".encode(), f"Version: {after}".encode(), 1)
            if name == "appliance/__init__.py":
                content = content.replace(_VERSION.format(before).encode(), _VERSION.format(after).encode())
            content += changes.get(name, "").encode()
            target.writestr(renamed, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            rows.append((renamed, f"sha256={digest}", len(content)))
        lines = io.StringIO()
        csv.writer(lines, lineterminator="\n").writerows([*rows, (record, "", "")])
        target.writestr(record, lines.getvalue())
    wheel.unlink()
