"""What strace saw a process ask of the network, judged: who leaves the host, or asks for a name.

Loopback, Unix sockets and netlink, by which a process asks its own kernel, stay on the host.
"""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

# A ring asks for the same without one of these calls. Nobody gets one, and libuv, which would like one for epoll_ctl,
# does without.
CALLS: Final = ("socket", "connect", "sendto", "sendmsg", "sendmmsg", "io_uring_setup")
_NO_RING: Final = "io_uring_setup:error=ENOSYS"
# Names are asked for here: DNS, its multicast sister, and DNS over TLS.
_NAME_PORTS: Final = frozenset({53, 5353, 853})
# systemd's resolver, which asks for others.
_RESOLVERS: Final = ("/run/systemd/resolve/", "/run/avahi-daemon/")
_KINDS_OF_INET: Final = ("SOCK_STREAM", "SOCK_DGRAM")

_CALL = re.compile(r"^\d+ +(?:<\.\.\. )?(\w+)(?:\(| resumed>)")
_SOCKET = re.compile(r"socket\((\w+), (SOCK_\w+)")
_FAMILY = re.compile(r"sa_family=(\w+)")
_INET = re.compile(r'sa_family=AF_INET, sin_port=htons\((\d+)\), sin_addr=inet_addr\("([^"]+)"\)')
_INET6 = re.compile(r'sa_family=AF_INET6, sin6_port=htons\((\d+)\),[^}]*?inet_pton\(AF_INET6, "([^"]+)"')
_UNIX = re.compile(r'sun_path=@?"([^"]*)"')


def missing() -> str | None:
    """Why nothing can be watched in a network of its own here; None where it can."""
    absent = [name for name in ("strace", "unshare", "ip") if shutil.which(name) is None]
    if absent:
        return f"needs {', '.join(absent)}"
    tried = subprocess.run(["unshare", "--net", "strace", "-qq", "true"], capture_output=True, check=False)
    return "needs root, who may make a network namespace and trace in it" if tried.returncode else None


def run_without_route(log: Path, command: Sequence[str], seconds: float) -> None:
    """Runs `command` where loopback is the only network; fails where it does not end with 0 in time.

    To `log` goes what it and its children ask of the network, but for the bytes: they could read like an address.
    """
    # fmt: off
    traced = ["strace", "-f", "-qq", "--seccomp-bpf", "-s", "0", "-o", str(log), "-e", "signal=none",
              "-e", f"trace={','.join(CALLS)}", "-e", f"inject={_NO_RING}"]
    # fmt: on
    inside = 'ip link set lo up && exec "$@"'
    process = subprocess.Popen(
        ["unshare", "--net", "--", "sh", "-c", inside, "sh", *traced, *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=seconds)
    except BaseException:
        # All of them: without its tracer the daemon would go on.
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    assert process.returncode == 0, said.decode()


def escapes(lines: Iterable[str]) -> list[str]:
    """Those lines of such a log that leave the host, ask for a name, or cannot be read."""
    return [line for line in lines if not _stays(line)]


def _stays(line: str) -> bool:
    call = _CALL.match(line)
    if call is None or call[1] not in CALLS:
        return False
    if call[1] == "io_uring_setup":
        return line.endswith(("(INJECTED)", "<unfinished ...>"))
    if call[1] == "socket":
        return _socket_stays(line)
    # Without an address it goes where the socket was connected to before, and that was judged.
    families = set(_FAMILY.findall(line))
    if not families:
        return call[1] != "connect" or "resumed>" in line
    return all(_address_stays(line, family) for family in families)


def _socket_stays(line: str) -> bool:
    made = _SOCKET.search(line)
    if made is None:
        return "resumed>" in line
    family, kind = made.groups()
    return family in ("AF_UNIX", "AF_NETLINK") or (family in ("AF_INET", "AF_INET6") and kind in _KINDS_OF_INET)


def _address_stays(line: str, family: str) -> bool:
    if family in ("AF_NETLINK", "AF_UNSPEC"):  # AF_UNSPEC takes a connection back
        return True
    if family == "AF_UNIX":
        return not any(path.startswith(_RESOLVERS) for path in _UNIX.findall(line))
    found = {"AF_INET": _INET, "AF_INET6": _INET6}.get(family)
    pairs = found.findall(line) if found is not None else []
    # As many as were named: one that cannot be read has not been judged.
    return len(pairs) == _FAMILY.findall(line).count(family) and all(_is_here(*pair) for pair in pairs)


def _is_here(port: str, host: str) -> bool:
    address = ipaddress.ip_address(host)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback and int(port) not in _NAME_PORTS
