"""The units on a booted Debian: what they serve, what they may, and what they do when something breaks."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import pytest

from appliance.worker.process_name import ENGINE
from tests.system.machine import Machine
from tests.system.product import APPLIANCE

# Making the system takes a minute where there is none yet.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

QUESTION: Final = "What is mutual TLS?"
ANSWER_BEGINS: Final = "Mutual TLS means that both sides show a certificate"
SETTLE_SECONDS_MAX: Final = 60.0


def ask(machine: Machine) -> str:
    """A chat as a client of this host has it, with certificate and key, over the API."""
    return machine.run(*APPLIANCE, "run", "demo", QUESTION, "--temperature", "0", user="appliance").stdout


def main_pid(machine: Machine) -> int:
    return int(machine.show("appliance.service", "MainPID"))


def workers(machine: Machine) -> dict[str, str]:
    """The process ids of what is there, by what each is for, and the units they are in."""
    found = {}
    listed = machine.run("ps", "-eo", "pid=,user:20=,comm=").stdout
    for line in listed.splitlines():
        pid, user, name = line.split(None, 2)
        if user == "appliance-worker":
            found[pid] = name
    return found


def engine_pid(machine: Machine) -> str:
    """Of the worker that serves the demo model."""
    (pid,) = [pid for pid, name in workers(machine).items() if ENGINE.startswith(name)]
    return pid


def wait_until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SETTLE_SECONDS_MAX
    while not holds():
        assert time.monotonic() < deadline, f"not in {SETTLE_SECONDS_MAX:.0f} s: {what}"
        time.sleep(0.1)


def is_up(machine: Machine) -> bool:
    return machine.run("systemctl", "is-active", "appliance.service", check=False).stdout.strip() == "active"


def status_of(machine: Machine, pid: int | str) -> dict[str, str]:
    """The fields of /proc/PID/status."""
    lines = machine.run("cat", f"/proc/{pid}/status").stdout.splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_a_chat_over_mutual_tls(machine: Machine) -> None:
    assert ask(machine).startswith(ANSWER_BEGINS)


def test_nothing_failed_on_the_way_up(machine: Machine) -> None:
    assert machine.run("systemctl", "--failed", "--plain", "--no-legend").stdout == ""
    assert machine.show("appliance.target", "ActiveState") == "active"


def test_the_service_holds_nothing_that_it_does_not_need(machine: Machine) -> None:
    status = status_of(machine, main_pid(machine))
    uid = machine.run("id", "-u", "appliance").stdout.strip()
    assert status["Uid"].split() == [uid] * 4
    assert (status["CapEff"], status["CapBnd"]) == ("0" * 16, "0" * 16)
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


def test_a_worker_has_neither_network_nor_secrets(machine: Machine) -> None:
    pid = engine_pid(machine)
    status = status_of(machine, pid)
    assert (status["CapEff"], status["CapBnd"], status["NoNewPrivs"], status["Seccomp"]) == (
        "0" * 16,
        "0" * 16,
        "1",
        "2",
    )
    interfaces = machine.run("cat", f"/proc/{pid}/net/dev").stdout.splitlines()[2:]
    assert [line.split(":")[0].strip() for line in interfaces] == ["lo"]
    # Even root, seeing what the worker sees, finds its key material closed.
    inside = ("nsenter", "--target", pid, "--mount", "--")
    for folder in ("secrets", "clients", "store", "audit", "run"):
        seen = machine.run(*inside, "stat", "--format=%a", f"/var/lib/appliance/{folder}").stdout
        assert seen.strip() == "0", folder


def test_what_can_be_written_cannot_be_run(machine: Machine) -> None:
    for pid, own in (
        (str(main_pid(machine)), "/var/lib/appliance"),
        (engine_pid(machine), "/var/cache/appliance-worker"),
    ):
        writable, executable = set[str](), set[str]()
        for line in machine.run("cat", f"/proc/{pid}/mountinfo").stdout.splitlines():
            _, _, _, _, place, options, *_ = line.split()
            # What is mounted over a place later is what counts.
            for places, applies in ((writable, "rw" in options.split(",")), (executable, "noexec" not in options)):
                places.add(place) if applies else places.discard(place)
        assert {own, "/tmp", "/var/tmp", "/dev/shm"} <= writable
        assert {"/opt/appliance", "/usr/bin", "/usr/lib"} <= executable - writable
        # Root's alone, and no place for what a service without rights could make.
        assert writable & executable <= {"/dev", "/run", "/run/host/incoming", "/run/host/os-release", "/dev/hugepages"}
