"""The protocols as systemd's manual pages have them, on real sockets that stand for the manager's."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance.errors import ConfigError
from appliance.systemd import PassedFd, PassedSockets, ServiceManager, passed_fds

# Takes what it was passed as systemd's child would, and says what it found.
_CHILD = """
import os
from appliance.systemd import passed_fds
os.environ["LISTEN_PID"] = str(os.getpid())
for one in passed_fds(os.environ, os.getpid()):
    print(one.name, one.fd, os.get_inheritable(one.fd))
"""


@pytest.fixture
def manager_socket(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(os.fspath(tmp_path / "notify"))
        listening.settimeout(60)
        yield listening


@pytest.fixture
def manager(manager_socket: socket.socket) -> Iterator[ServiceManager]:
    manager = ServiceManager(manager_socket.getsockname())
    yield manager
    manager.close()


def listening_socket() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def test_a_child_finds_its_descriptors_with_their_names_and_keeps_them_to_itself() -> None:
    first, second = socket.socketpair()
    with first, second:
        done = subprocess.run(
            (sys.executable, "-c", f"import os; os.dup2({first.fileno()}, 3); os.dup2({second.fileno()}, 4)\n{_CHILD}"),
            env=os.environ | {"LISTEN_FDS": "2", "LISTEN_FDNAMES": "api:worker-1"},
            pass_fds=(first.fileno(), second.fileno()),
            capture_output=True,
            text=True,
            check=True,
        )
    assert done.stdout.splitlines() == ["api 3 False", "worker-1 4 False"]


@pytest.mark.parametrize(
    "environment",
    [{}, {"LISTEN_FDS": "1", "LISTEN_PID": "7"}, {"LISTEN_FDS": "0", "LISTEN_PID": "8"}, {"LISTEN_PID": "8"}],
)
def test_nothing_is_taken_that_was_meant_for_somebody_else_or_is_not_there(environment: dict[str, str]) -> None:
    assert passed_fds(environment, pid=8) == ()


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"LISTEN_FDS": "-1"}, "LISTEN_FDS='-1'"),
        ({"LISTEN_FDS": "many"}, "LISTEN_FDS='many'"),
        ({"LISTEN_FDS": "1025"}, "up to 1024"),
        ({"LISTEN_FDS": "2", "LISTEN_FDNAMES": "api"}, "1 names for 2 descriptors"),
    ],
)
def test_nonsense_is_refused(environment: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        passed_fds({"LISTEN_PID": "8"} | environment, pid=8)


def test_sockets_are_had_by_name_once_and_what_is_left_is_an_error() -> None:
    with listening_socket() as api:
        sockets = PassedSockets([PassedFd("api", os.dup(api.fileno()))])
        with pytest.raises(ConfigError, match=r"named 'api', which nothing here is called.*: main, admin"):
            sockets.refuse_rest(("main", "admin"))
        taken = sockets.take("api")
        assert taken is not None
        with taken:
            assert taken.getsockname() == api.getsockname()
            assert not taken.getblocking()
        assert sockets.take("api") is None
        sockets.refuse_rest(())


def test_two_sockets_of_one_name_are_refused_and_none_stays_open() -> None:
    with listening_socket() as one, listening_socket() as other:
        fds = [os.dup(one.fileno()), os.dup(other.fileno())]
        with pytest.raises(ConfigError, match="two sockets named 'api'"):
            PassedSockets(PassedFd("api", fd) for fd in fds)
        for fd in fds:
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(fd)


def connected() -> int:
    ours, theirs = socket.socketpair()
    theirs.close()
    return ours.detach()


def datagram() -> int:
    return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).detach()


def no_socket() -> int:
    return os.open("/dev/null", os.O_RDONLY)


@pytest.mark.parametrize(
    ("make", "says"), [(connected, "does not listen"), (datagram, "does not listen"), (no_socket, "is no socket")]
)
def test_what_does_not_listen_is_refused(make: Callable[[], int], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        PassedSockets([PassedFd("api", make())])


def test_the_manager_is_told_in_its_words(manager: ServiceManager, manager_socket: socket.socket) -> None:
    with manager.reloading():
        pass
    manager.ready()
    with pytest.raises(ConfigError), manager.reloading(lambda: 1_234_567_999):
        raise ConfigError("broken")
    manager.stopping()
    manager.extend(1.5)
    manager.alive()
    assert [manager_socket.recv(4096) for _ in range(6)] == [
        b"READY=1",
        b"RELOADING=1\nMONOTONIC_USEC=1234567",
        b"READY=1",
        b"STOPPING=1",
        b"EXTEND_TIMEOUT_USEC=1500000",
        b"WATCHDOG=1",
    ]


def test_a_status_is_one_line_and_said_when_it_changes(manager: ServiceManager, manager_socket: socket.socket) -> None:
    for text in ("serves", "serves", "1 model\nREADY=1", "x" * 500):
        manager.status(text)
    manager.alive()
    said = [manager_socket.recv(4096) for _ in range(4)]
    assert said == [b"STATUS=serves", b"STATUS=1 model READY=1", b"STATUS=" + b"x" * 200, b"WATCHDOG=1"]


def test_a_descriptor_is_kept_beyond_our_own(manager: ServiceManager, manager_socket: socket.socket) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        assert manager.keep("worker-1", ours.fileno())
        ours.close()
        data, fds, _, _ = socket.recv_fds(manager_socket, 4096, 4)
        assert data == b"FDSTORE=1\nFDNAME=worker-1"
        with socket.socket(fileno=fds[0]) as kept:
            kept.sendall(b"still here")
            assert theirs.recv(100) == b"still here"


def test_an_address_that_is_no_path_is_reached() -> None:
    name = f"appliance-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0{name}")
        manager = ServiceManager.of({"NOTIFY_SOCKET": f"@{name}"}, pid=1)
        manager.ready()
        assert listening.recv(100) == b"READY=1"
        manager.close()


def test_without_a_manager_nothing_happens() -> None:
    manager = ServiceManager.of({}, pid=1)
    manager.ready()
    assert not manager.listens
    assert not manager.keep("worker-1", 0)
    assert manager.watchdog_seconds is None


def test_a_manager_that_has_gone_harms_nobody(
    manager: ServiceManager, manager_socket: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    manager_socket.close()
    manager.ready()
    assert "systemd was not told READY=1" in caplog.text


def test_a_manager_that_is_not_there_is_a_fault_of_the_start() -> None:
    with pytest.raises(ConfigError, match="NOTIFY_SOCKET='/nowhere/notify' cannot be reached"):
        ServiceManager.of({"NOTIFY_SOCKET": "/nowhere/notify"}, pid=1)


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "9"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_how_often_a_sign_of_life_is_due(environment: dict[str, str], seconds: float | None) -> None:
    assert ServiceManager.of(environment, pid=8).watchdog_seconds == seconds
