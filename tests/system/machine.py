"""A system that runs in a container: its own PID 1, network, users and processes; this host's kernel."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Final

from tests.system.cgroup import own_group

BOOT_SECONDS_MAX: Final = 300.0
POWER_OFF_SECONDS_MAX: Final = 180.0
RUN_SECONDS_MAX: Final = 300.0
_LOOK_SECONDS: Final = 0.05
_ENVIRONMENT: Final = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "LANG": "C.UTF-8", "HOME": "/root"}


class Machine:
    """What runs in it, for the tests' process. console: all that it wrote there."""

    def __init__(self, leader: int, console: Path) -> None:
        self._leader = leader
        self.console = console

    def run(
        self,
        *command: str,
        user: str | None = None,
        check: bool = True,
        seconds_max: float = RUN_SECONDS_MAX,
        stdin: str = "",
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command in it, as root or another user. Raises AssertionError with what it said where it fails."""
        done = subprocess.run(
            self._inside(command, user),
            input=stdin,
            env=_ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=seconds_max,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    @contextlib.contextmanager
    def running(self, *command: str, user: str | None = None) -> Iterator[subprocess.Popen[str]]:
        """A command that runs in it beside the block, and is ended with it."""
        process = subprocess.Popen(
            self._inside(command, user),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=_ENVIRONMENT,
            text=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--value", "--property", name, unit).stdout.strip()

    def journal(self, *select: str) -> str:
        """Its log, or the part of it that journalctl's options select."""
        return self.run("journalctl", "--no-pager", "--output=short-monotonic", *select).stdout

    def _inside(self, command: Sequence[str], user: str | None) -> Sequence[str]:
        enter = ("nsenter", "--target", str(self._leader), "--mount", "--uts", "--ipc", "--net", "--pid", "--wdns=/")
        become = () if user is None else ("runuser", "--user", user, "--")
        return (*enter, "--", *become, *command)


@contextlib.contextmanager
def booted(root: Path, console: Path) -> Iterator[Machine]:
    """The system of `root`, from multi-user on; at the end it is powered off, or ended.

    It has a loopback interface and no other one. It ends with the tests' process, however that ends.
    """
    # nspawn takes SIGTERM for the power button.
    command = ("setpriv", "--pdeathsig", "TERM", "systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot")
    boot = (*command, "--private-network", "--directory", str(root))
    with console.open("wb") as written, own_group(boot) as boot_in_group:
        nspawn = subprocess.Popen(
            boot_in_group,
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=written,
        )
        try:
            machine = Machine(_leader(nspawn), console)
            _wait_until_up(machine)
            yield machine
        finally:
            _power_off(nspawn, written)


def _leader(nspawn: subprocess.Popen[bytes]) -> int:
    """The container's PID 1, by its number here."""
    deadline = time.monotonic() + BOOT_SECONDS_MAX
    while time.monotonic() < deadline and nspawn.poll() is None:
        for pid in _descendants(nspawn.pid):
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{pid}/status").read_text()
                numbers = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[1:]
                if len(numbers) > 1 and numbers[-1] == "1" and Path(f"/proc/{pid}/comm").read_text() == "systemd\n":
                    return pid
        time.sleep(_LOOK_SECONDS)
    raise RuntimeError("the container did not start")


def _descendants(pid: int) -> Iterator[int]:
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            yield int(child)
            yield from _descendants(int(child))


def _wait_until_up(machine: Machine) -> None:
    deadline = time.monotonic() + BOOT_SECONDS_MAX
    while (said := machine.run("systemctl", "is-system-running", check=False).stdout.strip()) != "running":
        if said == "degraded" or time.monotonic() > deadline:
            failed = machine.run("systemctl", "--failed", "--no-pager", check=False).stdout
            raise AssertionError(f"the system is {said}\n{failed}\n{machine.console.read_text(errors='replace')}")
        time.sleep(_LOOK_SECONDS)


def _power_off(nspawn: subprocess.Popen[bytes], written: IO[bytes]) -> None:
    nspawn.terminate()
    try:
        nspawn.wait(POWER_OFF_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        inside = list(_descendants(nspawn.pid))
        nspawn.kill()
        nspawn.wait()
        for pid in inside:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        written.write(b"\nkilled: it did not power off\n")
