"""The units on a booted system: what they serve, what they may, and what they do when something breaks."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from appliance.api.parting import IDLE_SECONDS
from appliance.worker.process_name import ENGINE
from tests.system.distributions import BOOKWORM
from tests.system.machine import Machine
from tests.system.product import APPLIANCE, DEMO_MODELS, MODELS, PYTHON

# Making the system takes a minute where there is none yet.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600), pytest.mark.usefixtures("journal_of_failures")]

QUESTION: Final = "What is mutual TLS?"
ANSWER_BEGINS: Final = "Mutual TLS means that both sides show a certificate"
SETTLE_SECONDS_MAX: Final = 180.0
# For what is the same wherever the units are: it takes a minute and more.
ON_ONE: Final = pytest.mark.parametrize("distribution", [BOOKWORM], indirect=True, ids=str)
UNITS: Final = "/usr/local/lib/systemd/system"
STATE: Final = "/var/lib/appliance"
SETTINGS: Final = "/etc/appliance/appliance.yaml"
# As `ps` shows it.
ENGINE_NAME: Final = ENGINE[:15]
# Where it is, clients under load stop.
ENOUGH: Final = "/run/enough"
# New connections one after the other, and beside them answers as streams, each to its end; the same over connections
# that are kept, with pauses of several lengths. Nothing is tried again. It says when it has had some answers of each
# kind, and goes on until it has had as many again since there is ENOUGH.
PUMP: Final = """
import http.client, json, os, ssl, sys, threading, time
bundle = "/var/lib/appliance/clients/demo"
tls = ssl.create_default_context(cafile=f"{bundle}/ca.crt")
tls.load_cert_chain(f"{bundle}/client.crt", f"{bundle}/client.key")
key = open(f"{bundle}/api.key").read().strip()
headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
chat = {"model": "demo", "stream": True, "messages": [{"role": "user", "content": "What is mutual TLS?"}]}
told = {"answered": 0, "streamed": 0, "kept": 0, "kept_streamed": 0, "failed": [], "connect_seconds": []}
some = {"answered": 25, "streamed": 1, "kept": 25, "kept_streamed": 1}
LIST, CHAT = ("GET", "/v1/models"), ("POST", "/v1/chat/completions", json.dumps(chat | {"max_tokens": 24}))
SHORT = ("POST", "/v1/chat/completions", json.dumps(chat | {"max_tokens": 8}))
end, ending = time.monotonic() + 600, threading.Event()

def connected(what):
    connection = http.client.HTTPSConnection("127.0.0.1", 8443, timeout=120, context=tls)
    began = time.monotonic()
    connection.connect()
    if what == "answered":
        told["connect_seconds"].append(time.monotonic() - began)
    return connection

def pump(what, request, pause, keep):
    # As pools do: closed by the other side before the request is no failure, later it is. Only where this process was
    # held up, and was silent for so long, the request may have met the service's farewell.
    connection, last = None, False
    while not last:
        last = ending.is_set()
        began, asked = time.monotonic(), None
        try:
            if connection is not None and ended(connection):
                connection.close()
                connection = None
            if connection is None:
                connection = connected(what)
                heard = time.monotonic()
            connection.request(*request, headers=headers)
            asked = time.monotonic()
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == 200, (answer.status, body)
            assert request is LIST or b"data: [DONE]" in body and b'"error"' not in body, body
            told[what] += 1
            heard = asked
            if not keep or connection.sock is None:
                connection.close()
                connection = None
        except Exception as error:
            silent = 0 if connection is None else (asked or time.monotonic()) - heard
            if silent < float(sys.argv[2]) or not isinstance(error, ConnectionError | ssl.SSLError):
                told["failed"].append(f"{what}: {type(error).__name__}: {error} after {time.monotonic() - began:.1f} s")
            connection = None
        time.sleep(pause)

def ended(connection):
    connection.sock.settimeout(0)
    try:
        connection.sock.read(1)
        return True
    except ssl.SSLWantReadError:
        return False
    except OSError:
        return True
    finally:
        connection.sock.settimeout(120)

def wait(counts):
    while not told["failed"] and any(told[what] < count for what, count in counts.items()) and time.monotonic() < end:
        time.sleep(0.05)

pumps = [("answered", LIST, 0.01, False), ("streamed", CHAT, 0, False), ("kept_streamed", SHORT, 0.1, True)]
pumps += [("kept", LIST, pause, True) for pause in (0.02, 0.1, 0.3, 0.7)]
threads = [threading.Thread(target=pump, args=each) for each in pumps]
for each in threads:
    each.start()
wait(some)
print("asking", flush=True)
while not os.path.exists(sys.argv[1]) and time.monotonic() < end:
    time.sleep(0.05)
wait({what: told[what] + count for what, count in some.items()})
ending.set()
for each in threads:
    each.join()
print(json.dumps(told))
"""


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
    """Of the worker that serves the demo model, once the one that it has replaced is gone."""
    found: list[str] = []

    def alone() -> bool:
        found[:] = [pid for pid, name in workers(machine).items() if name == ENGINE_NAME]
        return len(found) == 1

    wait_until(alone, "one worker that serves the model")
    return found[0]


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


def test_what_is_loaded_is_known_with_its_process(machine: Machine) -> None:
    (line,) = [line for line in machine.run(*APPLIANCE, "ps").stdout.splitlines() if line.startswith("demo ")]
    assert engine_pid(machine) in line.split()


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


def test_systemd_finds_no_fault_in_the_units(machine: Machine) -> None:
    # What only a host with a GPU has.
    machine.run("ln", "--symbolic", "/bin/true", "/usr/bin/nvidia-modprobe")
    units = machine.run("ls", UNITS).stdout.split()
    verified = machine.run("systemd-analyze", "verify", *(f"{UNITS}/{unit}" for unit in units))
    machine.run("rm", "/usr/bin/nvidia-modprobe")
    assert verified.stdout + verified.stderr == ""


@pytest.fixture
def settings(machine: Machine) -> Iterator[Callable[[str], None]]:
    """Writes appliance.yaml; empty again, and read again, after the test."""

    def write(text: str) -> None:
        machine.run("tee", SETTINGS, stdin=text)

    yield write
    write("")
    machine.run("systemctl", "reload", "appliance.service")


def test_users_of_different_groups_have_different_roles(machine: Machine, settings: Callable[[str], None]) -> None:
    for user, group in (("anna", "llm-operators"), ("otto", "llm-auditors"), ("emil", "llm-guests")):
        machine.run("groupadd", group)
        groups = "appliance-admin," + group if user != "emil" else group
        machine.run("useradd", "--groups", groups, user)
    settings("admin: {groups: {operator: [llm-operators], auditor: [llm-auditors]}}\n")
    machine.run("systemctl", "reload", "appliance.service")

    assert machine.run(*APPLIANCE, "whoami", user="anna").stdout == "anna: operator\n"
    assert machine.run(*APPLIANCE, "whoami", user="otto").stdout == "otto: auditor\n"
    assert machine.run(*APPLIANCE, "audit", "tail", user="otto").stdout
    assert machine.run(*APPLIANCE, "audit", "tail", user="anna", check=False).returncode == 1
    # Not in the socket's group: the kernel lets them in nowhere.
    emil = machine.run(*APPLIANCE, "whoami", user="emil", check=False)
    assert (emil.returncode, emil.stdout) == (1, "")


def test_a_reload_with_a_broken_file_fails_and_changes_nothing(
    machine: Machine, settings: Callable[[str], None]
) -> None:
    before = main_pid(machine)
    settings("listeners: {api: {prot: 8443}}\n")
    reloaded = machine.run("systemctl", "reload", "appliance.service", check=False)
    assert reloaded.returncode == 1
    logged = lambda: "prot" in machine.journal("--unit=appliance.service", "--lines=20")  # noqa: E731
    wait_until(logged, "the reason in the journal")
    assert is_up(machine)
    assert main_pid(machine) == before
    assert ask(machine).startswith(ANSWER_BEGINS)


def test_a_network_that_the_units_keep_out_is_warned_of(machine: Machine) -> None:
    added = machine.run(*APPLIANCE, "allow", "add", "192.0.2.0/24")
    for unit in ("appliance.service", "appliance.socket"):
        assert f"IPAddressAllow= of {unit} does not let 192.0.2.0/24 through" in added.stderr
    machine.run(*APPLIANCE, "allow", "discard")


def test_a_worker_that_is_killed_is_followed_by_another(machine: Machine) -> None:
    before = engine_pid(machine)
    machine.run("kill", "-KILL", before)
    wait_until(lambda: before not in workers(machine), "its end")
    assert ask(machine).startswith(ANSWER_BEGINS)
    assert engine_pid(machine) != before

    def as_many_units() -> bool:
        listed = machine.run("systemctl", "list-units", "--all", "--plain", "--no-legend", "appliance-engine@*").stdout
        return len(listed.splitlines()) == len(workers(machine))

    # The next spare worker may just start.
    wait_until(as_many_units, "no unit of what has ended")


def test_a_service_that_hangs_is_ended_by_the_watchdog_and_comes_back(machine: Machine) -> None:
    before, restarts = main_pid(machine), int(machine.show("appliance.service", "NRestarts"))
    machine.run("kill", "-STOP", str(before))
    wait_until(lambda: main_pid(machine) not in (0, before), "the watchdog's restart")
    wait_until(lambda: is_up(machine), "the service")
    assert int(machine.show("appliance.service", "NRestarts")) == restarts + 1
    logged = lambda: "Watchdog timeout" in machine.journal("--unit=appliance.service", "--lines=200")  # noqa: E731
    wait_until(logged, "the reason in the journal")
    assert ask(machine).startswith(ANSWER_BEGINS)


def test_a_restart_under_load_fails_no_request(machine: Machine) -> None:
    machine.run("rm", "--force", ENOUGH)
    with machine.running(PYTHON, "-I", "-c", PUMP, ENOUGH, str(IDLE_SECONDS), user="appliance") as pump:
        assert pump.stdout is not None
        try:
            assert "asking\n" in pump.stdout
            began = time.monotonic()
            machine.run("systemctl", "restart", "appliance.service")
            seconds = time.monotonic() - began
        finally:
            machine.run("touch", ENOUGH)
        output, _ = pump.communicate(timeout=600)
    told = json.loads(output.splitlines()[-1])
    assert told["failed"] == []
    connects = sorted(told["connect_seconds"])
    percentile = connects[int(len(connects) * 0.99)]
    sys.stdout.write(
        f"restart: {seconds:.1f} s; {len(connects)} new connections, the 99th percentile took {percentile:.1f} s, the "
        f"longest {connects[-1]:.1f} s; {told['kept']} requests over kept ones\n"
    )
    assert told["answered"] >= 50
    assert told["kept"] >= 50
    assert told["streamed"] >= 2
    assert told["kept_streamed"] >= 2
    # Nobody waits for much more than the restart.
    assert connects[-1] < seconds + 20


@pytest.mark.parametrize("how", ["restart", "crash"])
def test_the_service_comes_back_to_a_model_that_has_stayed(machine: Machine, how: str) -> None:
    assert ask(machine).startswith(ANSWER_BEGINS)
    before, worker = main_pid(machine), engine_pid(machine)
    if how == "restart":
        machine.run("systemctl", "restart", "appliance.service")
    else:
        machine.run("kill", "-KILL", str(before))
    wait_until(lambda: main_pid(machine) not in (0, before) and is_up(machine), "the service")
    assert ask(machine).startswith(ANSWER_BEGINS)
    assert engine_pid(machine) == worker
    # And it can still be ended.
    wait_until(lambda: len(workers(machine)) == 3, "one worker each for the model, the hardware and the next load")


def test_a_stop_ends_every_worker(machine: Machine) -> None:
    machine.run("systemctl", "stop", "appliance.service")
    wait_until(lambda: not workers(machine), "the workers' end")
    machine.run("systemctl", "start", "appliance.service")
    assert ask(machine).startswith(ANSWER_BEGINS)


@ON_ONE
def test_a_worker_that_has_loaded_something_else_does_not_stay(machine: Machine) -> None:
    worker = engine_pid(machine)
    for text in (DEMO_MODELS.replace("8192", "4096"), DEMO_MODELS):
        machine.run("tee", MODELS, stdin=text)
        machine.run("systemctl", "restart", "appliance.service")
        assert ask(machine).startswith(ANSWER_BEGINS)
        before, worker = worker, engine_pid(machine)
        assert worker != before


@ON_ONE
def test_a_model_is_imported_made_smaller_and_served_by_workers_of_another_user(machine: Machine) -> None:
    found = re.search(r"path: (.+)", DEMO_MODELS)
    assert found is not None
    machine.run("cp", found[1], "/var/lib/appliance-import/small.gguf")
    machine.run(*APPLIANCE, "models", "import", "/var/lib/appliance-import/small.gguf")
    machine.run(*APPLIANCE, "models", "quantize", "small", "--to", "q4_0", "--name", "smaller", "--requantize")
    entries = [f"  - {{id: {name}, path: {STATE}/models/{name}/{name}.gguf}}\n" for name in ("small", "smaller")]
    machine.run("ls", f"{STATE}/models/smaller")
    machine.run("tee", MODELS, stdin=DEMO_MODELS + "".join(entries))
    machine.run(*APPLIANCE, "models", "apply")
    for name in ("small", "smaller"):
        assert machine.run(*APPLIANCE, "run", name, QUESTION, user="appliance").stdout
        assert machine.run("stat", "--format=%U:%G %a", f"{STATE}/models/{name}").stdout == (
            "appliance:appliance-models 2750\n"
        )
    doctor = machine.run(*APPLIANCE, "doctor", check=False).stdout
    assert "state_directory" not in doctor or "other users may" not in doctor, doctor
    machine.run("tee", MODELS, stdin=DEMO_MODELS)
    machine.run(*APPLIANCE, "models", "apply")


@ON_ONE
def test_the_key_encryption_key_may_be_a_credential(machine: Machine, settings: Callable[[str], None]) -> None:
    made = (
        "head -c 32 /dev/urandom | systemd-creds encrypt --name=appliance-kek - /etc/credstore.encrypted/appliance-kek"
    )
    machine.run("sh", "-c", f"mkdir -p -m 700 /etc/credstore.encrypted && {made}")
    machine.run("systemctl", "restart", "appliance.service")
    for text in ("key_encryption: {source: credential}\n", ""):
        settings(text)
        machine.run("systemctl", "reload", "appliance.service")
        machine.run(*APPLIANCE, "secrets", "rekey", "--yes")
        machine.run("systemctl", "restart", "appliance.service")
        assert ask(machine).startswith(ANSWER_BEGINS)
        ours = machine.run(*APPLIANCE, "secrets", "list").stdout
        assert ("appliance-kek:" in ours) == bool(text), ours


def test_the_status_says_how_the_service_is(machine: Machine) -> None:
    wait_until(lambda: machine.show("appliance.service", "StatusText").startswith("1 of 1 models loaded"), "a status")
