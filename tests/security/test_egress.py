"""On a host whose only network is loopback all works, and nothing tries to leave it or asks for a name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.security.egress import escapes, missing, run_without_route

STAYING = """
1 socket(AF_INET, SOCK_STREAM|SOCK_CLOEXEC, IPPROTO_TCP) = 3
1 socket(AF_INET6, SOCK_DGRAM|SOCK_CLOEXEC|SOCK_NONBLOCK, IPPROTO_IP <unfinished ...>
1 <... socket resumed>)             = 4
1 socket(AF_NETLINK, SOCK_RAW|SOCK_CLOEXEC, NETLINK_ROUTE) = 5
1 connect(3, {sa_family=AF_INET, sin_port=htons(8443), sin_addr=inet_addr("127.0.0.9")}, 16) = 0
1 connect(3, {sa_family=AF_INET, sin_port=htons(8443), sin_addr=inet_addr("127.0.0.1")}, 16 <unfinished ...>
1 <... connect resumed>)            = 0
1 connect(3, {sa_family=AF_INET6, sin6_port=htons(1), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "::1", &sin6_addr), sin6_scope_id=0}, 28) = 0
1 connect(3, {sa_family=AF_UNIX, sun_path="/var/run/nscd/socket"}, 110) = -1 ENOENT (No such file or directory)
1 connect(3, {sa_family=AF_UNSPEC, sa_data="\\0\\0"}, 16) = 0
1 sendto(3, ""..., 113, 0, NULL, 0) = 113
1 sendto(5, [{nlmsg_len=20}], 20, 0, {sa_family=AF_NETLINK, nl_pid=0, nl_groups=00000000}, 12) = 20
1 sendmsg(3, {msg_name=NULL, msg_namelen=0, msg_iov=[{iov_base=""..., iov_len=9}], msg_iovlen=1}, 0) = 9
1 io_uring_setup(256, {flags=0x10000}) = -1 ENOSYS (Function not implemented) (INJECTED)
1 io_uring_setup(256, {flags=0x10000} <unfinished ...>
1 <... io_uring_setup resumed>)     = -1 ENOSYS (Function not implemented) (INJECTED)
""".strip().splitlines()  # noqa: E501
LEAVING = """
1 socket(AF_INET, SOCK_RAW, IPPROTO_ICMP) = 3
1 socket(AF_PACKET, SOCK_DGRAM, htons(0x3 /* ETH_P_ALL */)) = 3
1 socket(AF_VSOCK, SOCK_STREAM, 0) = 3
1 connect(3, {sa_family=AF_INET, sin_port=htons(443), sin_addr=inet_addr("192.0.2.1")}, 16) = -1 ENETUNREACH (Network is unreachable)
1 connect(3, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("127.0.0.53")}, 16) = 0
1 connect(3, {sa_family=AF_INET6, sin6_port=htons(443), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "2001:db8::1", &sin6_addr), sin6_scope_id=0}, 28) = -1 ENETUNREACH (Network is unreachable)
1 connect(3, {sa_family=AF_INET6, sin6_port=htons(443), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "::ffff:192.0.2.1", &sin6_addr), sin6_scope_id=0}, 28 <unfinished ...>
1 connect(3, {sa_family=AF_UNIX, sun_path="/run/systemd/resolve/io.systemd.Resolve"}, 42) = 0
1 connect(3, {sa_family=AF_VSOCK, svm_cid=VMADDR_CID_HOST, svm_port=0x1}, 16) = 0
1 connect(3, 0x7ffe, 16) = -1 EFAULT (Bad address)
1 sendto(3, ""..., 20, 0, {sa_family=AF_INET, sin_port=htons(514), sin_addr=inet_addr("192.0.2.1")}, 16) = 20
1 sendmsg(3, {msg_name={sa_family=AF_INET, sin_port=htons(9), sin_addr=inet_addr("224.0.0.251")}, msg_namelen=16}, 0) = 9
1 sendmmsg(3, [{msg_hdr={msg_name={sa_family=AF_INET, sin_port=htons(9), sin_addr=inet_addr("127.0.0.1")}}}, {msg_hdr={msg_name={sa_family=AF_INET, sin_port=htons(9), sin_addr=inet_addr("192.0.2.1")}}}], 2, 0) = 2
1 io_uring_setup(64, {flags=0}) = 3
1 <... io_uring_setup resumed>) = 3
what no call begins
""".strip().splitlines()  # noqa: E501
PLANTED = """
import contextlib, socket
socket.getaddrinfo("localhost", 443)
for address in (("192.0.2.1", 443), ("2001:db8::1", 443)):
    with contextlib.suppress(OSError):
        socket.create_connection(address, 1)
        raise SystemExit("there is a network")
with socket.socket(type=socket.SOCK_DGRAM) as datagram, contextlib.suppress(OSError):
    datagram.sendto(b"x", ("192.0.2.2", 514))
with contextlib.suppress(OSError):
    socket.getaddrinfo("updates.example", 443)
"""


def test_what_stays_on_the_host() -> None:
    assert escapes(STAYING) == []


@pytest.mark.parametrize("line", LEAVING)
def test_what_leaves_it(line: str) -> None:
    assert escapes([line]) == [line]


@pytest.fixture
def watched(tmp_path: Path) -> Path:
    """The file for what is seen; skips where nothing can be."""
    if (reason := missing()) is not None:
        pytest.skip(reason)
    return tmp_path / "strace"


@pytest.mark.slow
def test_who_tries_is_seen(watched: Path) -> None:
    run_without_route(watched, [sys.executable, "-c", PLANTED], 60)
    seen = "\n".join(escapes(watched.read_text().splitlines()))
    for address in ('"192.0.2.1"', '"2001:db8::1"', '"192.0.2.2"', "htons(53)"):
        assert address in seen, seen
    assert '"127.0.0.1"' not in seen and '"::1"' not in seen, seen


@pytest.mark.slow
def test_a_day_of_use_stays_on_the_host(watched: Path, tmp_path: Path) -> None:
    run_without_route(watched, [sys.executable, "-m", "tests.security.everyday_use", str(tmp_path / "run")], 280)
    lines = watched.read_text().splitlines()
    assert escapes(lines) == []
    assert any('sin_addr=inet_addr("127.0.0.1")' in line for line in lines), "the clients were seen"
    assert any('sun_path="' in line and "admin" in line for line in lines), "the commands were seen"
    log = (tmp_path / "run" / "log").read_text()
    assert "Traceback" not in log, log
