"""Commands as processes: signals, closed pipes, and other users. Never a traceback."""

from __future__ import annotations

import importlib
import os
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.cli import main
from appliance.state_dir import StateDir
from tests.cli.conftest import Command
from tests.e2e.appliance_process import run_command

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
STRANGER = 64_004


@pytest.fixture
def silent_daemon(state: StateDir) -> Iterator[socket.socket]:
    """Listens on the admin socket and never answers."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(state.run / "admin.sock"))
        listening.listen(4)
        listening.settimeout(60)
        yield listening


def begin(*arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "appliance", *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_command_is_a_program_with_an_exit_code(state: StateDir, tmp_path: Path) -> None:
    said = run_command("keys", "list", "--state-dir", tmp_path / "missing")
    assert (said.returncode, said.stdout) == (1, "")
    assert said.stderr == (
        f"appliance: {tmp_path / 'missing'} does not exist; check --state-dir, "
        "or start the appliance once to create it\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize("module", ["typer", "appliance.cli.clients"])
def test_interrupting_before_it_has_begun(module: str) -> None:
    # It cannot get on by more than a page of what it says of its imports, and has more than that to say.
    with subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "appliance", "version"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        pipesize=4096,
    ) as command:
        assert command.stderr is not None
        assert any(line.endswith(f" {module}\n".encode()) for line in iter(command.stderr.readline, b""))
        command.send_signal(signal.SIGINT)
        out, err = command.communicate(timeout=60)
    assert (command.returncode, out) == (130, b"")
    assert [line for line in err.splitlines() if not line.startswith(b"import time:")] == []


@pytest.mark.slow
def test_interrupting_what_the_daemon_does_not_answer(state: StateDir, silent_daemon: socket.socket) -> None:
    with begin("keys", "add", "demo", "--state-dir", state.path) as command:
        # The first is a look whether anybody listens.
        silent_daemon.accept()[0].close()
        connection, _ = silent_daemon.accept()
        assert connection.recv(10)
        command.send_signal(signal.SIGINT)
        out, err = command.communicate(timeout=60)
        connection.close()
    assert (command.returncode, out) == (130, "")
    assert err == "appliance: interrupted; it may have been done all the same, so look before repeating it\n"


@pytest.mark.slow
def test_a_daemon_that_ends_before_it_answers(state: StateDir, silent_daemon: socket.socket) -> None:
    with begin("keys", "list", "--state-dir", state.path) as command:
        silent_daemon.accept()[0].close()
        for _ in range(2):
            connection, _ = silent_daemon.accept()
            connection.recv(10)
            connection.close()
        out, err = command.communicate(timeout=60)
    assert (command.returncode, out) == (1, "")
    assert err.startswith("appliance: the appliance cannot be reached, or ended the connection: ")
    assert "Traceback" not in err


@pytest.mark.slow
def test_interrupting_a_question(state: StateDir) -> None:
    with begin("clients", "revoke", "demo", "--state-dir", state.path) as command:
        assert command.stderr is not None
        question = "Refuse client demo from now on, and end its running requests? [y/N]: "
        asked = command.stderr.read(len(question))
        time.sleep(0.1)
        command.send_signal(signal.SIGINT)
        out, err = command.communicate(timeout=60)
    assert (command.returncode, out) == (1, "")
    assert asked == question
    assert err.endswith("appliance: nothing was changed; answer y, or give --yes\n")


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [("keys", "list"), ("certs", "list", "--json"), ("status",), ("--help",)])
def test_a_pipe_that_nobody_reads(state: StateDir, arguments: tuple[str, ...]) -> None:
    where = () if arguments == ("--help",) else ("--state-dir", state.path)
    with begin(*arguments, *where) as command:
        assert command.stdout is not None
        command.stdout.close()
        assert command.stderr is not None
        err = command.stderr.read()
        command.wait(60)
    assert command.returncode != 0
    assert "Traceback" not in err


def as_user(uid: int, *arguments: str | Path) -> tuple[int, str]:
    """A command of another user: exit code and all it said. In a fork, since the interpreter may be root's own."""
    # What typer would import only now, and another user may not read.
    importlib.import_module("typer.rich_utils")
    with tempfile.TemporaryFile("w+") as said:
        child = os.fork()
        if child == 0:
            code = 99
            try:
                os.setgroups([])
                os.setgid(uid)
                os.setuid(uid)
                sys.stdout = sys.stderr = said
                sys.argv = ["appliance", *map(str, arguments)]
                main()
                code = 0
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 0
            except BaseException:
                traceback.print_exc()
            finally:
                said.flush()
                os._exit(code)
        _, status = os.waitpid(child, 0)
        said.seek(0)
        return os.waitstatus_to_exitcode(status), said.read()


@as_root
def test_a_user_who_may_not_look(command: Command, state: StateDir, tmp_path: Path) -> None:
    code, said = as_user(STRANGER, "keys", "list", "--state-dir", state.path)
    assert code == 1
    assert "is closed to this user" in said
    assert "admin.groups" in said
    with tempfile.TemporaryDirectory() as name:
        hall = Path(name)
        hall.chmod(0o755)
        theirs = StateDir(hall / "state")
        theirs.prepare()
        hall.joinpath("state").chmod(0o755)
        theirs.run.chmod(0o755)
        code, said = as_user(STRANGER, "keys", "list", "--state-dir", theirs.path)
        assert code == 1
        assert "belongs to user 'root'" in said
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(theirs.run / "admin.sock"))
            listening.listen(1)
            (theirs.run / "admin.sock").chmod(0o660)
            code, said = as_user(STRANGER, "keys", "list", "--state-dir", theirs.path)
        assert code == 1
        assert "is closed to this user" in said


@as_root
def test_an_administrator_needs_the_socket_and_not_the_state_directory(command: Command) -> None:
    with tempfile.TemporaryDirectory() as name:
        hall = Path(name)
        hall.chmod(0o755)
        closed, config, path = StateDir(hall / "state"), hall / "appliance.yaml", hall / "admin.sock"
        closed.prepare()
        config.write_text("admin: {socket: admin.sock}\n")
        config.chmod(0o644)
        where = ("whoami", "--state-dir", closed.path, "--config", config)
        code, said = as_user(STRANGER, *where)
        assert (code, f"no daemon answers at {path}, and {closed.path}" in said) == (1, True), said
        assert "start the appliance" in said
        code, said = as_user(STRANGER, "run", "demo", "hello", "--state-dir", closed.path)
        assert (code, f"{closed.path} is closed to this user" in said) == (1, True), said
        with socketserver.UnixStreamServer(str(path), _Anna) as server:
            path.chmod(0o666)
            serving = threading.Thread(target=server.serve_forever, args=(0.01,))
            serving.start()
            code, said = as_user(STRANGER, *where)
            server.shutdown()
            serving.join()
        assert (code, said) == (0, "anna: viewer\n")


class _Anna(socketserver.StreamRequestHandler):
    """An admin API that takes everybody for her."""

    def handle(self) -> None:
        if not self.rfile.readline().startswith(b"GET /admin/v1/whoami "):
            return
        body = b'{"name": "anna", "roles": ["viewer"]}'
        self.wfile.write(b'HTTP/1.1 200 OK\r\nETag: "1"\r\nContent-Length: %d\r\n\r\n%b' % (len(body), body))


@as_root
def test_a_user_who_may_not_write_or_read(command: Command, state: StateDir) -> None:
    with tempfile.TemporaryDirectory() as name:
        hall = Path(name)
        hall.chmod(0o755)
        secret = hall / "secret.csr"
        secret.write_text("x")
        secret.chmod(0o600)
        code, said = as_user(STRANGER, "clients", "add", "x", "--csr", secret, "--state-dir", state.path)
        assert (code, "readable" in said, "Traceback" in said) == (2, True, False), said
        code, said = as_user(STRANGER, "clients", "add", "x", "--out", hall / "new", "--state-dir", state.path)
        assert (code, f"{hall}: this user may not write there" in said) == (1, True)
        code, said = as_user(STRANGER, "keys", "add", "x", "--out", hall / "key", "--state-dir", state.path)
        assert (code, "may not write there" in said) == (1, True)
        code, said = as_user(STRANGER, "keys", "list", "--config", secret, "--state-dir", state.path)
        assert (code, f"{secret}: cannot be read" in said) == (1, True), said
