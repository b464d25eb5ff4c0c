"""The bundle on a clean system without network: installed, upgraded, interrupted, brought back, restored elsewhere."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from appliance.api.parting import IDLE_SECONDS
from tests.system.bundles import Bundles
from tests.system.clean_root import clean_root, layered
from tests.system.conftest import BUILD
from tests.system.distributions import BOOKWORM, TRIXIE, Distribution
from tests.system.machine import Machine, booted

# Making the system and the bundle takes a minute each where there is none yet.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

STICK: Final = "/media/stick"
SETUP: Final = f"{STICK}/appliance-setup"
QUESTION: Final = "What is mutual TLS?"
ANSWER_BEGINS: Final = "Mutual TLS means that both sides show a certificate"
INSTALL_SECONDS_MAX: Final = 900.0
ANSWERS: Final = """
names: [llm.example.lan]
allow: [192.0.2.0/24]
administrators: {anna: [operator, security], otto: [auditor]}
model_dir: /srv/models
client: webapp
certificate: request
"""
# The oldest and the newest, where the one between has shown with the first test that it installs and goes back.
ON_TWO: Final = pytest.mark.parametrize("distribution", [BOOKWORM, TRIXIE], indirect=True, ids=str)
# A daemon that leaves in the state what an older one must not find, and ends.
SPOILS: Final = (
    "\n\ndef serve(settings, *_: object, **__: object) -> None:\n"
    "    (settings.state.path / 'store/of-a-later-release').write_text('')\n"
    "    (settings.state.path / 'store/last_seen.json').write_text('spoiled')\n"
    "    raise SystemExit('this release is broken')\n"
)
# Where it is, clients stop.
ENOUGH: Final = "/run/enough"
# Clients that connect anew for each request, with patience and without a second try. They say when the first was
# answered, and end once there is ENOUGH and each has asked often.
CLIENTS: Final = """
import http.client, json, os, ssl, sys, threading, time
bundle = "/var/lib/appliance/clients/demo"
tls = ssl.create_default_context(cafile=f"{bundle}/ca.crt")
tls.load_cert_chain(f"{bundle}/client.crt", f"{bundle}/client.key")
key = open(f"{bundle}/api.key").read().strip()
told = {"answered": 0, "refused": [], "failed": [], "longest": 0.0}

def ask():
    turn = 0
    while turn < 10 or not os.path.exists(sys.argv[1]):
        began, connected, asked = time.monotonic(), None, None
        connection = http.client.HTTPSConnection("127.0.0.1", 8443, timeout=300, context=tls)
        try:
            connection.connect()
            connected = time.monotonic()
            connection.request("GET", "/v1/models", headers={"Authorization": f"Bearer {key}"})
            asked = time.monotonic()
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            told["answered"] += 1
            told["longest"] = max(told["longest"], time.monotonic() - began)
        except ConnectionRefusedError:
            told["refused"].append(round(time.monotonic(), 1))
        except Exception as error:
            # Where this process was held up for so long, the request may have met the service's farewell.
            silent = 0 if connected is None else (asked or time.monotonic()) - connected
            if silent < float(sys.argv[2]) or not isinstance(error, (ConnectionError, ssl.SSLError)):
                told["failed"].append(f"{type(error).__name__}: {error} after {time.monotonic() - began:.1f} s")
        finally:
            connection.close()
        if turn == 0:
            print("asking", flush=True)
        turn += 1
        time.sleep(0.1)

threads = [threading.Thread(target=ask) for _ in range(3)]
for each in threads:
    each.start()
for each in threads:
    each.join()
print(json.dumps(told))
"""


@pytest.fixture
def root(distribution: Distribution, bundles: Bundles, tmp_path: Path) -> Iterator[Path]:
    """A clean one with the first release on a stick."""
    with layered(clean_root(distribution, BUILD), tmp_path / "layer") as root:
        put_on_stick(root, bundles.first)
        (root / STICK[1:] / "answers.yaml").write_text(ANSWERS)
        yield root


def put_on_stick(root: Path, *files: Path) -> None:
    stick = root / STICK[1:]
    stick.mkdir(exist_ok=True)
    for file in files:
        shutil.copy2(file, stick)


def install(machine: Machine, bundles: Bundles, *more: str) -> None:
    """The two commands of docs/INSTALL.md."""
    bundle = f"{STICK}/{bundles.first.name}"
    machine.run("tar", "--extract", "--file", bundle, "--directory", STICK, "appliance-setup")
    trust = ("--fingerprint", bundles.fingerprint, "--answers", f"{STICK}/answers.yaml")
    machine.run(SETUP, "install", bundle, *trust, *more, seconds_max=INSTALL_SECONDS_MAX)


def install_by_hand(machine: Machine, bundles: Bundles) -> str:
    """The same with an operator who compares the fingerprint and takes what is usual; what the screen showed."""
    bundle = f"{STICK}/{bundles.first.name}"
    machine.run("tar", "--extract", "--file", bundle, "--directory", STICK, "appliance-setup")
    terminal = ("script", "--quiet", "--return", "--command", f"{SETUP} install {bundle}", "/dev/null")
    return machine.run(*terminal, stdin="yes\n" + 10 * "\n", seconds_max=INSTALL_SECONDS_MAX).stdout


def make_users(machine: Machine) -> None:
    for user in ("anna", "otto"):
        machine.run("useradd", user)


def ask(machine: Machine) -> str:
    return machine.run("appliance", "run", "demo", QUESTION, "--temperature", "0", user="appliance").stdout


@contextlib.contextmanager
def clients(machine: Machine, what: str) -> Iterator[None]:
    """Nobody who connects during the block is refused, and everybody is answered."""
    machine.run("rm", "--force", ENOUGH)
    with machine.running("/usr/bin/python3", "-I", "-c", CLIENTS, ENOUGH, str(IDLE_SECONDS)) as asking:
        assert asking.stdout is not None
        try:
            assert "asking\n" in asking.stdout
            yield
        finally:
            machine.run("touch", ENOUGH)
        output, _ = asking.communicate(timeout=600)
    told = json.loads(output.splitlines()[-1])
    sys.stdout.write(f"{what}: {told['answered']} requests of clients, the longest took {told['longest']:.1f} s" + "\n")
    assert (told["refused"], told["failed"]) == ([], [])
    assert told["answered"] > 20


def version(machine: Machine) -> str:
    return str(json.loads(machine.run("appliance", "top", "--once", "--json").stdout)["version"])


def test_a_life_on_one_host(root: Path, bundles: Bundles, tmp_path: Path) -> None:
    first = str(bundles.facts["version"])
    later = bundles.later("0.1.1", 2)
    broken = bundles.later("0.1.2", 3, {"appliance/daemon.py": SPOILS}, state_format=2)
    put_on_stick(root, later, broken)
    with booted(root, tmp_path / "console") as machine:
        make_users(machine)
        began = time.monotonic()
        install(machine, bundles)
        assert ask(machine).startswith(ANSWER_BEGINS)
        sys.stdout.write(f"bundle to first answer: {time.monotonic() - began:.1f} s" + "\n")
        assert machine.run("systemctl", "--failed", "--plain", "--no-legend").stdout == ""
        assert machine.run("appliance", "whoami", user="anna").stdout == "anna: operator, security\n"
        assert machine.run("appliance", "whoami", user="otto").stdout == "otto: auditor\n"
        # What was asked for lies where it is said, for root alone.
        found = machine.run("stat", "--format=%a %n", "/root/webapp", "/root/webapp/api.key", "/root/server.csr").stdout
        assert found.splitlines() == ["700 /root/webapp", "600 /root/webapp/api.key", "644 /root/server.csr"]
        assert machine.run("ls", "/etc/appliance/first-run.json", check=False).returncode != 0
        # Nothing is done twice.
        again = machine.run(SETUP, "install", f"{STICK}/{bundles.first.name}")
        assert "is ready" in again.stdout

        plan = machine.run("appliance-setup", "upgrade", f"{STICK}/{later.name}", "--plan").stdout
        assert "1. makes release 0.1.1" in plan
        assert version(machine) == first
        began = time.monotonic()
        with clients(machine, "upgrade"):
            machine.run("appliance-setup", "upgrade", f"{STICK}/{later.name}", seconds_max=INSTALL_SECONDS_MAX)
        sys.stdout.write(f"upgrade: {time.monotonic() - began:.1f} s" + "\n")
        assert version(machine) == "0.1.1"
        assert ask(machine).startswith(ANSWER_BEGINS)
        assert "webapp" in machine.run("appliance", "clients", "list").stdout

        began = time.monotonic()
        with clients(machine, "upgrade and back"):
            told = machine.run(
                "appliance-setup", "upgrade", f"{STICK}/{broken.name}", check=False, seconds_max=INSTALL_SECONDS_MAX
            )
        sys.stdout.write(f"{told.stdout}{told.stderr}upgrade and back: {time.monotonic() - began:.1f} s\n")
        assert told.returncode == 1
        assert "0.1.1 runs again" in told.stderr
        assert version(machine) == "0.1.1"
        assert ask(machine).startswith(ANSWER_BEGINS)
        assert machine.run("systemctl", "--failed", "--plain", "--no-legend").stdout == ""
        assert machine.run("ls", "/var/lib/appliance/store/of-a-later-release", check=False).returncode != 0

        older = machine.run("appliance-setup", "upgrade", f"{STICK}/{bundles.first.name}", check=False)
        assert (older.returncode, "--allow-downgrade" in older.stderr) == (1, True)
        with clients(machine, "rollback"):
            machine.run("appliance-setup", "rollback", seconds_max=INSTALL_SECONDS_MAX)
        assert version(machine) == first
        assert ask(machine).startswith(ANSWER_BEGINS)
        machine.run("appliance-setup", "rollback", seconds_max=INSTALL_SECONDS_MAX)
        assert version(machine) == "0.1.1"

        # Whoever was revoked stays so, whichever release serves, and with whichever key the audit log is sealed.
        machine.run("appliance", "clients", "revoke", "webapp", "--yes")
        machine.run("appliance", "secrets", "rotate-seal-key")
        machine.run("appliance-setup", "rollback", "--restore-state", seconds_max=INSTALL_SECONDS_MAX)
        assert version(machine) == first
        (webapp,) = (one for one in machine.run("appliance", "clients", "list").stdout.splitlines() if "webapp" in one)
        assert "revoked" in webapp
        assert ask(machine).startswith(ANSWER_BEGINS)
        assert machine.run("appliance", "audit", "verify", check=False).returncode == 2

        machine.run("appliance-setup", "uninstall")
        assert machine.run("ls", "/var/lib/appliance/secrets").stdout
        machine.run(SETUP, "uninstall", "--purge", "--yes")
        assert machine.run("ls", "/var/lib/appliance", check=False).returncode != 0


@contextlib.contextmanager
def struck(machine: Machine, signal: str, command: tuple[str, ...]) -> Iterator[subprocess.Popen[str]]:
    """An upgrade to 0.1.1 that is sent a signal as soon as the new release starts."""
    with machine.running("sh", "-c", 'echo $$; exec "$@"', "sh", *command) as upgrade:
        assert upgrade.stdout is not None
        pid = upgrade.stdout.readline().strip()
        for line in upgrade.stdout:
            if "starts 0.1.1" in line:
                break
        machine.run("kill", f"-{signal}", pid)
        yield upgrade


@ON_TWO
def test_a_power_cut_in_an_upgrade_ends_in_the_earlier_release(root: Path, bundles: Bundles, tmp_path: Path) -> None:
    later = bundles.later("0.1.1", 2)
    put_on_stick(root, later)
    with booted(root, tmp_path / "console") as machine:
        assert bundles.fingerprint in install_by_hand(machine, bundles)
        command = ("appliance-setup", "upgrade", f"{STICK}/{later.name}")
        with struck(machine, "TERM", command) as upgrade:
            output, _ = upgrade.communicate(timeout=INSTALL_SECONDS_MAX)
        assert (upgrade.returncode, "0.1.1 was interrupted" in output) == (1, True), output
        assert version(machine) == bundles.facts["version"]
        with struck(machine, "KILL", command):
            pass
        assert machine.run("ls", "/opt/appliance/change.json").stdout
    with booted(root, tmp_path / "console") as machine:
        assert version(machine) == bundles.facts["version"]
        assert ask(machine).startswith(ANSWER_BEGINS)
        assert machine.run("ls", "/opt/appliance/change.json", check=False).returncode != 0
        booting = machine.journal()
        assert "the release that counts" in booting
        assert "ordering cycle" not in booting
        machine.run(*command, seconds_max=INSTALL_SECONDS_MAX)
        assert version(machine) == "0.1.1"


@ON_TWO
def test_a_backup_comes_up_on_another_host(
    root: Path, distribution: Distribution, bundles: Bundles, tmp_path: Path
) -> None:
    with booted(root, tmp_path / "console") as machine:
        make_users(machine)
        install(machine, bundles)
        said = machine.run("appliance", "backup", "new-recovery-key").stdout.split()
        secret, public = (word for word in said if word.startswith("apl-recovery-"))
        target = "/var/lib/appliance/appliance.backup"
        machine.run("appliance", "backup", "create", target, "--recovery-public", public)
        clients = machine.run("appliance", "clients", "list").stdout
    with layered(clean_root(distribution, BUILD), tmp_path / "other") as other:
        put_on_stick(other, bundles.first, root / target[1:], root / STICK[1:] / "answers.yaml")
        (other / STICK[1:] / "recovery.txt").write_text(secret)
        shutil.copytree(root / "root/webapp", other / STICK[1:] / "webapp")
        with booted(other, tmp_path / "other-console") as machine:
            make_users(machine)
            began = time.monotonic()
            backup = ("--restore", f"{STICK}/appliance.backup", "--recovery-secret-file", f"{STICK}/recovery.txt")
            install(machine, bundles, *backup)
            sys.stdout.write(f"backup to ready: {time.monotonic() - began:.1f} s" + "\n")
            assert machine.run("appliance", "clients", "list").stdout == clients
            assert ask(machine).startswith(ANSWER_BEGINS)
            # What a client was given by the old host lets it in here.
            machine.run("cp", "--recursive", f"{STICK}/webapp", "/var/lib/appliance/clients/")
            machine.run("chown", "--recursive", "appliance:", "/var/lib/appliance/clients/webapp")
            chat = ("appliance", "run", "demo", QUESTION, "--temperature", "0", "--client", "webapp")
            assert machine.run(*chat, user="appliance").stdout.startswith(ANSWER_BEGINS)
            refused = machine.run(SETUP, "install", f"{STICK}/{bundles.first.name}", *backup, check=False)
            assert (refused.returncode, "has keys already" in refused.stderr) == (1, True)
