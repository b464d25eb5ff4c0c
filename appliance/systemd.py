"""What systemd hands a service, and what a service tells it; nothing of this needs systemd to be there.

sd_listen_fds(3): sockets of `.socket` units and descriptors kept from an earlier run, as numbers from 3 on, with names.
sd_notify(3): datagrams of `NAME=value` lines to the Unix socket $NOTIFY_SOCKET; a descriptor that is to be kept goes
with one of them. sd_watchdog_enabled(3): how often a sign of life is due.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from appliance.errors import ConfigError

FIRST_FD: Final = 3
# More than a unit of ours passes; a number beyond it is no number of descriptors.
FDS_MAX: Final = 1024
_NAME: Final = re.compile(r"[!-9;-~]{1,255}")  # FileDescriptorName=: printable ASCII without colons
_STATUS_CHARS_MAX: Final = 200
# The manager may be busy for a moment. What is lost then is a status, or a sign of life that comes again.
_SEND_SECONDS_MAX: Final = 2.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PassedFd:
    """One descriptor, which belongs to whoever takes it. name: FileDescriptorName= of its unit, or FDNAME=."""

    name: str
    fd: int


def passed_fds(environment: Mapping[str, str], pid: int) -> tuple[PassedFd, ...]:
    """What this process was handed, in order; none where it was meant for another one. Raises ConfigError.

    They are closed in programs that this process starts.
    """
    if environment.get("LISTEN_PID") != str(pid):
        return ()
    count = environment.get("LISTEN_FDS", "0")
    if not count.isascii() or not count.isdigit() or int(count) > FDS_MAX:
        raise ConfigError(f"LISTEN_FDS={count!r} is no number of descriptors up to {FDS_MAX}")
    names = environment.get("LISTEN_FDNAMES", "").split(":") if "LISTEN_FDNAMES" in environment else []
    fds = range(FIRST_FD, FIRST_FD + int(count))
    if names and len(names) != len(fds):
        raise ConfigError(f"LISTEN_FDNAMES has {len(names)} names for {len(fds)} descriptors")
    for fd in fds:
        os.set_inheritable(fd, False)
    return tuple(PassedFd(names[index] if names else "unknown", fd) for index, fd in enumerate(fds))


class PassedSockets:
    """The listening sockets among what was handed over, by name, until somebody takes them. Raises ConfigError."""

    def __init__(self, passed: Iterable[PassedFd] = ()) -> None:
        self._sockets: dict[str, socket.socket] = {}
        try:
            for one in passed:
                listening = _listening(one)
                if one.name in self._sockets:
                    listening.close()
                    raise ConfigError(
                        f"systemd passes two sockets named {one.name!r}; a listener has one: give each .socket unit "
                        "one ListenStream= and a FileDescriptorName= of its own"
                    )
                self._sockets[one.name] = listening
        except BaseException:
            self.close()
            raise

    def take(self, name: str) -> socket.socket | None:
        """The socket of this name, which is the caller's from now on."""
        return self._sockets.pop(name, None)

    def refuse_rest(self, known: Iterable[str]) -> None:
        """Raises ConfigError where one is left that nobody asked for: clients would wait at it for ever."""
        if self._sockets:
            names = ", ".join(repr(name) for name in self._sockets)
            raise ConfigError(
                f"systemd passes a socket named {names}, which nothing here is called; FileDescriptorName= must be one "
                f"of: {', '.join(known)}"
            )

    def close(self) -> None:
        """Closes those that nobody took."""
        while self._sockets:
            self._sockets.popitem()[1].close()


def _listening(passed: PassedFd) -> socket.socket:
    try:
        found = socket.socket(fileno=passed.fd)
    except OSError as error:
        raise ConfigError(
            f"the descriptor {passed.name!r} that systemd passes is no socket: {error.strerror}"
        ) from error
    with contextlib.suppress(OSError):
        if found.type == socket.SOCK_STREAM and found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            found.setblocking(False)
            return found
    found.close()
    raise ConfigError(f"the socket {passed.name!r} that systemd passes does not listen; its unit needs Accept=no")


class ServiceManager:
    """Tells systemd how this service is. Any thread; does nothing where no manager listens.

    A manager that cannot be reached changes nothing about the service: it is logged, and that is all.
    """

    def __init__(self, address: str | None, watchdog_seconds: float | None = None) -> None:
        self.watchdog_seconds = watchdog_seconds
        self._socket: socket.socket | None = None
        self._status: str | None = None
        self._ready = False
        if address is None:
            return
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(_SEND_SECONDS_MAX)
        try:
            # A leading @ stands for an address that is no path.
            self._socket.connect(f"\0{address[1:]}" if address.startswith("@") else address)
        except OSError as error:
            self._socket.close()
            raise ConfigError(f"NOTIFY_SOCKET={address!r} cannot be reached: {error.strerror}") from error

    @classmethod
    def of(cls, environment: Mapping[str, str], pid: int) -> ServiceManager:
        """By what a manager puts into the environment. Raises ConfigError."""
        microseconds = environment.get("WATCHDOG_USEC", "")
        ours = environment.get("WATCHDOG_PID", str(pid)) == str(pid)
        due = int(microseconds) if ours and microseconds.isascii() and microseconds.isdigit() else 0
        return cls(environment.get("NOTIFY_SOCKET") or None, due / 1e6 if due else None)

    @property
    def listens(self) -> bool:
        """Whether there is a manager."""
        return self._socket is not None

    def ready(self) -> None:
        """The service serves."""
        self._ready = True
        self._tell("READY=1")

    @contextlib.contextmanager
    def reloading(self, clock_ns: Callable[[], int] = time.monotonic_ns) -> Iterator[None]:
        """A reload goes on inside the block, and is over with it, however it went."""
        # Before it serves, the word that ends a reload would say that it does.
        if not self._ready:
            yield
            return
        self._tell("RELOADING=1", f"MONOTONIC_USEC={clock_ns() // 1000}")
        try:
            yield
        finally:
            self._tell("READY=1")

    def stopping(self) -> None:
        """The service is on its way out."""
        self._tell("STOPPING=1")

    def status(self, text: str) -> None:
        """What `systemctl status` shows; said only where it is another one than before."""
        line = " ".join(text.split())[:_STATUS_CHARS_MAX]
        if line != self._status:
            self._status = line
            self._tell(f"STATUS={line}")

    def extend(self, seconds: float) -> None:
        """The start or stop that is under way may take so much longer, from now."""
        self._tell(f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")

    def alive(self) -> None:
        """A sign of life."""
        self._tell("WATCHDOG=1")

    def keep(self, name: str, fd: int) -> bool:
        """Has a copy of a descriptor kept over restarts, under a name; False where nobody keeps it.

        It is forgotten by itself when its other end has hung up.
        """
        assert _NAME.fullmatch(name), name
        return self._tell("FDSTORE=1", f"FDNAME={name}", fds=(fd,))

    def close(self) -> None:
        """Nothing more is told."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _tell(self, *lines: str, fds: tuple[int, ...] = ()) -> bool:
        if self._socket is None:
            return False
        data = "\n".join(lines).encode()
        try:
            if fds:
                socket.send_fds(self._socket, [data], list(fds))
            else:
                self._socket.send(data)
        except OSError as error:
            _log.warning("systemd was not told %s: %s", lines[0], error.strerror or error)
            return False
        return True
