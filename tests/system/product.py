"""Puts the product into a root: the packages that a bundle carries, and the code and units of this source tree."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Final

from appliance.demo import DEMO_MODEL_PATH
from tests.system.distributions import Distribution

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
# Where an installation puts it.
DEMO_MODEL: Final = "/srv/models/demo-chat-q8_0.gguf"
# One thread: two that share busy cores with other tests wait for each other most of the time.
DEMO_MODELS: Final = f"""
models:
  - id: demo
    path: {DEMO_MODEL}
    n_ctx: 8192
    threads: 1
    threads_batch: 1
    preload: true
"""
# As units and people call it.
PYTHON: Final = "/opt/appliance/current/venv/bin/python"
APPLIANCE: Final = (PYTHON, "-I", "-m", "appliance")
_PACKAGES: Final = ("appliance", "certs", "tui")


def install_release(root: Path, distribution: Distribution, bundle: Path) -> None:
    """An environment of the root's own Python, with the packages that a bundle carries and this source tree."""
    release = root / RELEASE
    packages = release / f"venv/lib/python{distribution.python}/site-packages"
    packages.mkdir(parents=True)
    (release / "venv/bin").mkdir()
    (release / "venv/bin/python").symlink_to("/usr/bin/python3")
    (release / "venv/pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n")
    (root / "opt/appliance/current").symlink_to("releases/test")
    with tarfile.open(bundle) as tar:
        tar.extractall(release, filter="data")
    wanted = release / "wanted.txt"
    wanted.write_text("".join(others((release / f"requirements/{distribution.python}.txt").read_text())))
    (pip,) = (path.name for path in (release / "wheels").glob("pip-*.whl"))
    sources = ("--no-index", "--find-links", f"/{RELEASE}/wheels", "--require-hashes", "--only-binary", ":all:")
    options = ("--quiet", "--no-cache-dir", "--no-warn-script-location", "--disable-pip-version-check", "--no-deps")
    run_pip = (f"/{RELEASE}/wheels/{pip}/pip", "--isolated", "install")
    _python(root, *run_pip, *options, *sources, "--requirement", f"/{RELEASE}/wanted.txt")
    shutil.rmtree(release / "wheels")
    for package in _PACKAGES:
        shutil.copytree(SOURCE / package, packages / package, ignore=shutil.ignore_patterns("__pycache__", "training"))
    # Of the others, pip has compiled them; nobody can write here later.
    _python(root, "-m", "compileall", "-q", f"/{packages.relative_to(root)}/appliance")


def install_units(root: Path) -> None:
    """Where a site's own units in /etc overrule them."""
    for kind, folder in UNIT_FOLDERS.items():
        shutil.copytree(SOURCE / "systemd" / kind, root / "usr/local/lib" / folder, dirs_exist_ok=True)


def serve_demo(root: Path) -> None:
    """What a site says: the demo model is served, and starting is a matter of the boot."""
    (root / "etc/appliance").mkdir()
    (root / MODELS[1:]).write_text(DEMO_MODELS)
    (root / DEMO_MODEL[1:]).parent.mkdir()
    shutil.copyfile(DEMO_MODEL_PATH, root / DEMO_MODEL[1:])
    subprocess.run(("systemctl", "--quiet", f"--root={root}", "enable", *ENABLED), check=True)


def others(requirements: str) -> list[str]:
    """Those of a bundle's lines that name other packages than our own."""
    return [line for line in requirements.splitlines(keepends=True) if not line.startswith("llm-appliance==")]


def _python(root: Path, *arguments: str) -> None:
    command = ("chroot", str(root), PYTHON, "-I", *arguments)
    subprocess.run(command, env={"PATH": "/usr/sbin:/usr/bin", "LANG": "C.UTF-8"}, stdin=subprocess.DEVNULL, check=True)
