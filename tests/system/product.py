"""Puts the product into a root: the packages that run these tests, and the units of this source tree."""

from __future__ import annotations

import compileall
import re
import shutil
import subprocess
from importlib.metadata import distribution
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

SOURCE: Final = Path(__file__).resolve().parents[2]
RELEASE: Final = "opt/appliance/releases/test"
# Of the source tree, and below /usr/local/lib.
UNIT_FOLDERS: Final = {
    "system": "systemd/system",
    "sysusers.d": "sysusers.d",
    "tmpfiles.d": "tmpfiles.d",
    "journald.conf.d": "systemd/journald.conf.d",
}
ENABLED: Final = (
    "appliance.target",
    "appliance.service",
    "appliance.socket",
    "appliance-admin.socket",
    "appliance-engine.socket",
)
MODELS: Final = "/etc/appliance/models.yaml"
DEMO_MODELS: Final = """
models:
  - id: demo
    path: /opt/appliance/current/venv/lib/python3.11/site-packages/appliance/demo/demo-chat-q8_0.gguf
    n_ctx: 8192
    preload: true
"""
# As units and people call it.
PYTHON: Final = "/opt/appliance/current/venv/bin/python"
APPLIANCE: Final = (PYTHON, "-I", "-m", "appliance")
_REQUIREMENT = re.compile(r"^[A-Za-z0-9._-]+==[^\\\n]*", re.MULTILINE)


def install_release(root: Path) -> None:
    """An environment of the root's own Python, with what requirements/runtime.lock names and this source tree."""
    environment = root / RELEASE / "venv"
    packages = environment / "lib/python3.11/site-packages"
    packages.mkdir(parents=True)
    (environment / "bin").mkdir()
    (environment / "bin/python").symlink_to("/usr/bin/python3")
    (environment / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n")
    for line in _REQUIREMENT.findall((SOURCE / "requirements/runtime.lock").read_text()):
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate():
            _copy_distribution(requirement.name, packages)
    for package in ("appliance", "certs", "tui"):
        shutil.copytree(SOURCE / package, packages / package, ignore=shutil.ignore_patterns("__pycache__", "training"))
    # Of the packages, pip has compiled them; nobody can write here later.
    compileall.compile_dir(packages / "appliance", quiet=1, stripdir=root, prependdir="/")
    (root / "opt/appliance/current").symlink_to("releases/test")


def install_units(root: Path) -> None:
    """Where a site's own units in /etc overrule them."""
    for kind, folder in UNIT_FOLDERS.items():
        shutil.copytree(SOURCE / "systemd" / kind, root / "usr/local/lib" / folder, dirs_exist_ok=True)


def serve_demo(root: Path) -> None:
    """What a site says: the demo model is served, and starting is a matter of the boot."""
    (root / "etc/appliance").mkdir()
    (root / MODELS[1:]).write_text(DEMO_MODELS)
    subprocess.run(("systemctl", "--quiet", f"--root={root}", "enable", *ENABLED), check=True)


def _copy_distribution(name: str, to: Path) -> None:
    found = distribution(name)
    for file in found.files or ():
        source = Path(str(file.locate()))
        if file.parts[0] == ".." or not source.is_file():
            continue
        target = to / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)
