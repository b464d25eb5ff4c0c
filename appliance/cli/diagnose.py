"""`appliance diagnose bundle`: what somebody far away needs to help, without secrets, prompts or answers."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import distributions
from json import dumps
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from appliance import __version__
from appliance.cli.common import DEFAULT_CONFIG, Appliance, existing
from appliance.cli.doctor import examined
from appliance.cli.files import check_file
from appliance.cli.layout import size
from appliance.cli.options import REMOTE_ENV, CommandGroup
from appliance.config import load_config, load_models
from appliance.doctor.archive import write_archive
from appliance.doctor.redaction import redacted, redacted_data, without_comments
from appliance.errors import ApplianceError, ConfigError, StateError
from appliance.safe_text import safe_lines, safe_text
from appliance.state_dir import replacing

_PROGRAM_SECONDS_MAX: Final = 20.0
_JOURNAL_LINES: Final = 2000
_UNIT: Final = "appliance*"
# Questions of the admin API, and what their answers are called in the bundle. Nothing here holds a text of a request.
_ASKED: Final[Mapping[str, tuple[str, dict[str, str | int]]]] = {
    "status.json": ("/status", {}),
    "snapshot.json": ("/snapshot", {}),
    "models.json": ("/instances", {}),
    "imported_models.json": ("/store", {}),
    "aliases.json": ("/aliases", {}),
    "certificates.json": ("/certificates", {}),
    "alerts.json": ("/alerts", {}),
    "usage.json": ("/usage", {"by": "model,day"}),
    "failed_requests.json": ("/requests", {"filter": "st>=400", "limit": 200}),
    "log.json": ("/logs", {"limit": 1000}),
}
_PROGRAMS: Final[Mapping[str, tuple[str, ...]]] = {
    "systemd_status.txt": ("systemctl", "status", "--no-pager", "--full", "--lines=0", _UNIT),
    "systemd_show.txt": ("systemctl", "show", "appliance.service", "--no-pager"),
    "journal.txt": ("journalctl", "--no-pager", "-o", "short-iso", "-n", str(_JOURNAL_LINES), "-u", _UNIT),
    "nvidia_smi.txt": ("nvidia-smi", "-q"),
}
# Of what systemd shows of the unit: where it hands over secrets, and what it was started with.
_UNIT_LINES_LEFT_OUT: Final = (
    "Environment=",
    "EnvironmentFiles=",
    "SetCredential",
    "LoadCredential",
    "PassEnvironment=",
)

app = CommandGroup("What helps to find out what is wrong.")


@app.callback()
def group() -> None:
    """Keeps `bundle` a command of its own: a group of one would be that command itself."""


@app.command("bundle")
def bundle(
    appliance: Appliance,
    out: Annotated[Path, typer.Option("--out", help="The new file to write, such as diagnose.tar.gz.", readable=False)],
) -> None:
    """Write an archive for whoever helps: versions, checks, state, configuration, figures and the newest log lines.

    Names of clients, models and hosts are in it. Keys, certificates' private keys, prompts and answers are not; look
    through it all the same before it leaves the house. Example: appliance diagnose bundle --out diagnose.tar.gz
    """
    check_file(out, new=True)
    now = time.time()
    files = {name: text.encode(errors="replace") for name, text in gathered(appliance).items()}
    folder = f"diagnose-{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%SZ}"
    try:
        with replacing(out) as file:
            write_archive(file, folder, files, now)
        digest, count = hashlib.sha256(out.read_bytes()).hexdigest(), out.stat().st_size
    except OSError as error:
        raise StateError(f"{out}: cannot be written: {error.strerror}") from error
    typer.echo(f"{out}: {len(files)} files, {size(count)}")
    typer.echo(f"SHA-256 {digest}")


def gathered(appliance: Appliance, run: Callable[[tuple[str, ...]], str | None] | None = None) -> dict[str, str]:
    """The texts, by file name, without secrets. What cannot be had is a line that says why."""
    found = {"versions.json": _json(_versions())}
    with contextlib.suppress(ApplianceError):
        found["doctor.json"] = _json(examined(appliance, full=False))
    try:
        answers = appliance.ask_each(_ASKED)
    except ApplianceError as trouble:
        answers = {"status.json": {"running": False, "trouble": str(trouble)}}
    found |= {name: _json(answer) for name, answer in answers.items()}
    if os.environ.get(REMOTE_ENV):
        # Files and programs of this host say nothing of an appliance elsewhere.
        return found
    found |= _configuration(appliance)
    for name, command in _PROGRAMS.items():
        if (said := (run or _said)(command)) is not None:
            found[name] = redacted(safe_lines(said))
    return found


def _versions() -> dict[str, object]:
    packages = {one.name: one.version for one in distributions() if one.name}
    return {
        "appliance": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "host": socket.gethostname(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "packages": dict(sorted(packages.items())),
    }


def _configuration(appliance: Appliance) -> dict[str, str]:
    """As it is understood, so that no comment is in it; a file that is refused without its comments."""
    found: dict[str, str] = {}
    with contextlib.suppress(ConfigError):
        path = existing(appliance.config, DEFAULT_CONFIG)
        folder = Path() if path is None else path.parent
        found["configuration.json"] = _understood(path, load_config)
        models = next((one for one in (folder / "models.yaml", Path("models.yaml")) if one.is_file()), None)
        if models is not None:
            found["models_configuration.json"] = _understood(models, load_models)
    return found


def _understood(path: Path | None, load: Callable[[Path], object]) -> str:
    if path is None:
        return _json("there is no file; the defaults count")
    try:
        return _json({"file": str(path), "content": msgspec.to_builtins(load(path))})
    except ConfigError as refused:
        try:
            text = without_comments(path.read_text(errors="replace")[: 2**20])
        except OSError:
            text = ""
        return _json({"file": str(path), "refused": str(refused), "text": text})


def _said(command: tuple[str, ...]) -> str | None:
    """What a program of this host prints; None where it is not here."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, timeout=_PROGRAM_SECONDS_MAX, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{command[0]}: {safe_text(str(error))}\n"
    lines = (done.stdout + done.stderr).decode(errors="replace").splitlines()
    return "".join(f"{line}\n" for line in lines if not line.lstrip().startswith(_UNIT_LINES_LEFT_OUT))


def _json(answer: Any) -> str:
    return dumps(redacted_data(answer), indent=1, ensure_ascii=False) + "\n"
