"""`appliance-setup`: the command line of the installer."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final

from installer.commands import Setup
from installer.errors import Refused, SetupError
from installer.host import look_at_host
from installer.layout import Layout
from installer.restoring import Backup
from installer.services import Systemd

_LOCK: Final = "/run/appliance-setup.lock"
_GATE_SECONDS_MAX: Final = 86_400.0


def main() -> None:
    """Exit status: 0 done, 1 not done, with the reason on standard error; 2 not understood."""
    asked = _parser().parse_args()
    os.umask(0o022)
    # Whoever's line is cut off does not cut a change in two.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if asked.command == "verify" or getattr(asked, "plan", False):
            _carry_out(asked)
            return
        with _lock():
            _carry_out(asked)
    except (SetupError, OSError, subprocess.TimeoutExpired) as error:
        # A disk that is full, or a stick that is pulled out, can end any step.
        sys.exit(f"appliance-setup: {error}{_unfinished()}")
    except KeyboardInterrupt:
        sys.exit(f"appliance-setup: interrupted{_unfinished()}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="appliance-setup", description="Installs and exchanges the LLM appliance.")
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, says: str, *, bundle: bool = False, plan: bool = True) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=says, description=says)
        if bundle:
            one.add_argument("bundle", type=Path, help="the llm-appliance-….tar")
        if plan:
            one.add_argument("--plan", action="store_true", help="say what would be done, and do nothing")
        return one

    verify = command("verify", "Prove that a bundle is what was signed.", bundle=True, plan=False)
    install = command("install", "Install the first release, and configure it.", bundle=True)
    for one in (verify, install):
        one.add_argument("--fingerprint", help="of the key that signs releases, as you have it on paper")
    install.add_argument("--answers", type=Path, help="a file with the answers to the questions of the first run")
    install.add_argument("--restore", type=Path, metavar="BACKUP", help="bring a backup up on this host")
    install.add_argument("--recovery-secret-file", type=Path, help="has the secret half of the backup's recovery key")
    upgrade = command("upgrade", "Put another release in the place of the current one.", bundle=True)
    upgrade.add_argument("--allow-downgrade", action="store_true", help="also an older one")
    rollback = command("rollback", "Go back to the release before.")
    rollback.add_argument(
        "--restore-state", action="store_true", help="and to its request log and history; what came after is lost"
    )
    recover = command("recover", "End a change that a power cut has interrupted.", plan=False)
    recover.add_argument("--at-boot", action="store_true", help=argparse.SUPPRESS)
    uninstall = command("uninstall", "Remove the product.")
    uninstall.add_argument("--purge", action="store_true", help="and keys, audit log, models and configuration")
    uninstall.add_argument("--yes", action="store_true", help="ask nothing")
    for one in (install, upgrade, rollback, recover):
        one.add_argument(
            "--gate-seconds",
            type=_seconds,
            default=120.0,
            help="how long a release may take to be ready (default: 120)",
        )
    return parser


def _carry_out(asked: argparse.Namespace) -> None:
    setup = Setup(
        layout=Layout(Path("/")),
        services=Systemd(),
        tell=_tell,
        ask=_ask,
        look=look_at_host,
        now=lambda: datetime.now(UTC).isoformat(timespec="seconds"),
        gate_seconds=getattr(asked, "gate_seconds", 120.0),
    )
    if asked.command == "verify":
        setup.verify(asked.bundle, asked.fingerprint)
    elif asked.command == "install":
        setup.install(asked.bundle, asked.fingerprint, asked.answers, _backup(asked), plan=asked.plan)
    elif asked.command == "upgrade":
        setup.upgrade(asked.bundle, downgrade=asked.allow_downgrade, plan=asked.plan)
    elif asked.command == "rollback":
        setup.rollback(restore_state=asked.restore_state, plan=asked.plan)
    elif asked.command == "recover":
        setup.recover(at_boot=asked.at_boot)
    else:
        setup.uninstall(purge=asked.purge, yes=asked.yes, plan=asked.plan)


def _tell(line: str) -> None:
    with contextlib.suppress(OSError):
        print(f"appliance-setup: {line}", flush=True)


def _unfinished() -> str:
    """What to do where a change was begun and could not be taken back."""
    begun = Layout(Path("/")).journal.exists()
    return "\na change is not finished: `appliance-setup recover` goes back to what was before" if begun else ""


def _backup(asked: argparse.Namespace) -> Backup | None:
    if (asked.restore is None) != (asked.recovery_secret_file is None):
        raise Refused("--restore and --recovery-secret-file go together")
    return None if asked.restore is None else Backup(asked.restore, asked.recovery_secret_file)


def _ask(question: str) -> bool:
    if not sys.stdin.isatty():
        return False
    try:
        return input(f"{question} [yes/no] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _seconds(text: str) -> float:
    """Of a deadline that comes. Raises ValueError."""
    if not 0 < (seconds := float(text)) <= _GATE_SECONDS_MAX:
        raise ValueError
    return seconds


def _lock() -> IO[str]:
    """Held until the process ends. Raises Refused where another one is at work."""
    if os.geteuid() != 0:
        raise Refused("this must be done as root: use sudo")
    lock = Path(_LOCK).open("w")  # noqa: SIM115 -- held until the process ends
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Refused("another appliance-setup is at work") from None
    return lock


if __name__ == "__main__":
    main()
