"""The accept loop: who is turned away before TLS, what a flood can do, and what changes under load."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from msgspec.structs import replace

from appliance.audit.record import APPLIANCE
from appliance.security.allowlist import Allowlist, Rule
from appliance.security.certificates import certificate_pem, issue_server
from appliance.security.credentials import AllowEntry, AllowState, Credentials
from appliance.security.identity import Peer
from appliance.security.stored_pair import store_pair
from appliance.security.tls import server_context
from appliance.state_dir import StateDir
from tests.security.authorities import PROFILES
from tests.security.forgery import authority
from tests.security.site import STREAM_CHUNKS, Site, config
from tests.waiting import until

# The beginning of a ClientHello that never goes on.
HALF_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
JUNK = b"\x00junk" * 50
# For tests that are not about the rate of connections.
NO_RATE = {"address_burst": 100_000}


@contextlib.asynccontextmanager
async def sockets(site: Site, count: int, source: str, data: bytes = b"") -> AsyncIterator[list[socket.socket]]:
    """Bare TCP connections from one address that send `data` and then nothing."""
    loop = asyncio.get_running_loop()
    opened: list[socket.socket] = []
    try:
        for _ in range(count):
            connection = socket.socket()
            opened.append(connection)
            connection.setblocking(False)
            connection.bind((source, 0))
            await loop.sock_connect(connection, ("127.0.0.1", site.port))
            if data:
                await loop.sock_sendall(connection, data)
        yield opened
    finally:
        for connection in opened:
            connection.close()


def whole_hello() -> bytes:
    """What an honest client sends first."""
    outgoing = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


async def accepted(site: Site, count: int) -> None:
    await site.until(lambda counters: counters.accepted >= count)


def open_fds() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_an_unlisted_address_is_reset_before_tls(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.allowlist = Allowlist.parse(["127.0.0.1"])
    with pytest.raises(ConnectionResetError):
        await site.ask(source="127.0.0.2")
    assert caplog.messages == ["127.0.0.2 is not in the allowlist"]
    assert (await site.ask(source="127.0.0.1")).status == 200
    counters = await site.settled()
    assert (counters.accepted, counters.denied_address, counters.handshake_failed) == (2, 1, 0)
    assert [(one.address, one.denied) for one in site.gate.denied(10)] == [("127.0.0.2", 1)]


async def test_the_default_list_lets_loopback_in(site: Site) -> None:
    assert (await site.ask(source="127.0.0.2")).status == 200


async def test_a_changed_list_holds_for_the_next_connection(site: Site) -> None:
    async with site.connect(site.tls(), "127.0.0.2") as connection:
        await site.until(lambda counters: counters.open == 1)
        site.allowlist = Allowlist.parse(["10.0.0.0/8"])
        with pytest.raises(ConnectionResetError):
            await site.ask(source="127.0.0.2")
        assert (await connection.ask([site.bearer()])).status == 200
        site.allowlist = Allowlist.parse([])
    assert (await site.ask(source="127.0.0.2")).status == 200


async def test_an_entry_that_has_ended_lets_nobody_in(site: Site) -> None:
    """Neither a new connection nor the next request of an open one, though nobody has changed the list."""
    end = site.clock() + timedelta(hours=1)
    site.allowlist = Allowlist([Rule.parse("127.0.0.2", end), Rule.parse("127.0.0.1")])

    def transition(document: Credentials, now: datetime) -> tuple[Credentials, None]:
        entries = AllowEntry(network="127.0.0.2/32", until=end), AllowEntry(network="127.0.0.1/32")
        return replace(document, allow=AllowState.of(entries)), None

    await site.office.change(APPLIANCE, "allow.apply", "allowlist", transition)
    async with site.connect(site.tls(), "127.0.0.2") as connection:
        assert (await connection.ask([site.bearer()])).status == 200
        site.clock.now = end
        with pytest.raises(ConnectionResetError):
            await site.ask(source="127.0.0.2")
        assert (await connection.ask([site.bearer()])).status == 403
    assert (await site.ask(source="127.0.0.1")).status == 200


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "spoke plain HTTP; this port speaks HTTPS only"),
        (b"CONNECT x:443 HTTP/1.1\r\n\r\n", "spoke plain HTTP; this port speaks HTTPS only"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "sent something that is not TLS"),
        (bytes(1000), "sent something that is not TLS"),
        (b"\xff" * 1000, "sent something that is not TLS"),
    ],
    ids=["http", "proxy", "ssh", "zeros", "ones"],
)
async def test_what_is_not_tls(site: Site, caplog: pytest.LogCaptureFixture, data: bytes, sentence: str) -> None:
    with contextlib.suppress(ConnectionResetError):
        answer = await site.raw(data)
        assert not answer.startswith(b"HTTP/")
    await site.settled()
    assert caplog.messages == [f"127.0.0.1 {sentence}"]


async def test_a_client_that_hangs_up(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    async with sockets(site, 1, "127.0.0.1", HALF_HELLO):
        await accepted(site, 1)
    await site.settled()
    assert caplog.messages == ["127.0.0.1 closed the connection during the handshake"]


@pytest.mark.slow
async def test_silent_and_half_open_handshakes_are_reaped(state: StateDir, caplog: pytest.LogCaptureFixture) -> None:
    async with Site.serve(state, config(handshake_seconds=3)) as site:
        fds = open_fds()
        async with sockets(site, 20, "127.0.0.2"), sockets(site, 20, "127.0.0.3", HALF_HELLO):
            await accepted(site, 40)
            assert site.gate.counters().in_handshake == 40
            counters = await site.settled()
        assert (counters.handshake_failed, counters.denied_cap) == (40, 0)
        await until(lambda: open_fds() <= fds)
        assert sorted(caplog.messages) == [f"127.0.0.{n} did not finish the handshake in time" for n in (2, 3)]


async def test_caps_in_all_and_per_address(state: StateDir, caplog: pytest.LogCaptureFixture) -> None:
    async with Site.serve(state, config(connections_max=5, connections_per_address_max=3)) as site:
        async with sockets(site, 3, "127.0.0.2"):
            await accepted(site, 3)
            with pytest.raises(ConnectionResetError):
                await site.raw(b"", "127.0.0.2")
            assert site.gate.counters().in_handshake == 3
            assert (await site.ask()).status == 200
            async with sockets(site, 2, "127.0.0.3"):
                await accepted(site, 7)
                with pytest.raises(ConnectionResetError):
                    await site.ask()
        assert (await site.settled()).denied_cap == 2
        assert caplog.messages[0] == "127.0.0.2 was turned away: it has 3 connections already"
        assert "127.0.0.1 was turned away: all 5 connections are in use" in caplog.messages
        assert (await site.ask()).status == 200


async def test_a_burst_of_honest_clients_queues_for_the_handshake(state: StateDir) -> None:
    async with Site.serve(state, config(handshakes_max=4)) as site:
        answers = await asyncio.gather(*(site.ask() for _ in range(60)))
        assert {answer.status for answer in answers} == {200}
        assert (await site.settled()).accepted == 60


async def test_the_rate_of_one_address_is_bounded_before_tls(state: StateDir, caplog: pytest.LogCaptureFixture) -> None:
    limits = config(address_per_second=1, address_burst=5)
    async with Site.serve(state, limits) as site, sockets(site, 5, "127.0.0.2"):
        await accepted(site, 5)
        with pytest.raises(ConnectionResetError):
            await site.raw(b"", "127.0.0.2")
        assert (await site.ask()).status == 200
        counters = site.gate.counters()
        assert (counters.denied_rate, counters.denied_cap, counters.in_handshake) == (1, 0, 5)
        assert caplog.messages == ["127.0.0.2 was turned away: more than 1 new connections a second"]
        assert vars(caplog.records[0])["reason"] == "denied_rate"
        await asyncio.sleep(1)
        assert (await site.ask(source="127.0.0.2")).status == 200


async def test_an_unlisted_address_has_no_rate_to_use_up(state: StateDir) -> None:
    async with Site.serve(state, config("127.0.0.1", address_per_second=0.1, address_burst=1)) as site:
        for _ in range(3):
            with pytest.raises(ConnectionResetError):
                await site.raw(b"", "127.0.0.2")
        counters = site.gate.counters()
        assert (counters.denied_address, counters.denied_rate) == (3, 0)


async def test_kept_alive_connections_outlive_a_flood_of_their_address(state: StateDir) -> None:
    async with (
        Site.serve(state, config(address_per_second=0.1, address_burst=10)) as site,
        site.connect(site.tls(), "127.0.0.2") as connection,
        sockets(site, 9, "127.0.0.2"),
    ):
        for _ in range(50):
            with contextlib.suppress(ConnectionResetError):
                await site.raw(JUNK, "127.0.0.2")
        assert (await connection.ask([site.bearer()])).status == 200
        assert site.gate.counters().denied_rate >= 45


@pytest.mark.parametrize("source", ["127.0.0.1", "127.0.0.2"], ids=["from elsewhere", "from the flooded address"])
async def test_silent_sockets_do_not_hold_up_honest_clients(state: StateDir, source: str) -> None:
    async with Site.serve(state, config(handshakes_max=8, **NO_RATE)) as site, sockets(site, 200, "127.0.0.2"):
        await accepted(site, 200)
        await assert_served_quickly(site, source)


@pytest.mark.parametrize("garbage", [JUNK, HALF_HELLO, whole_hello()], ids=["junk", "half hello", "stalled handshake"])
@pytest.mark.slow
async def test_silence_and_garbage_hold_up_nobody(state: StateDir, garbage: bytes) -> None:
    """The default limits but for the rate, which alone would refuse half of this flood."""
    async with (
        Site.serve(state, config(**NO_RATE)) as site,
        sockets(site, 200, "127.0.0.2"),
        sockets(site, 200, "127.0.0.2", garbage),
    ):
        await accepted(site, 400)
        # 200 stalled ones before it, 32 at once, a tenth of a second each.
        await assert_served_quickly(site, "127.0.0.2", times=3)
        await assert_served_quickly(site, "127.0.0.1", times=3)


async def test_a_stalled_handshake_gives_its_turn_back(state: StateDir) -> None:
    async with (
        Site.serve(state, config(handshakes_max=1, **NO_RATE)) as site,
        sockets(site, 3, "127.0.0.2", whole_hello()),
    ):
        await accepted(site, 3)
        assert (await site.ask(source="127.0.0.2")).status == 200
        assert site.gate.counters().in_handshake == 3


async def test_half_handshakes_of_one_address_do_not_hold_up_others(state: StateDir) -> None:
    async with (
        Site.serve(state, config(handshakes_max=8, **NO_RATE)) as site,
        sockets(site, 200, "127.0.0.2", HALF_HELLO),
    ):
        await accepted(site, 200)
        await assert_served_quickly(site, "127.0.0.1")


async def assert_served_quickly(site: Site, source: str, times: int = 20, seconds: float = 15) -> None:
    """Long before a handshake that stalls is given up: nobody waits for one of those."""
    for _ in range(times):
        started = time.perf_counter()
        assert (await site.ask(source=source)).status == 200
        assert time.perf_counter() - started < seconds


@pytest.mark.slow
async def test_a_flood_leaves_nothing_behind(state: StateDir, caplog: pytest.LogCaptureFixture) -> None:
    async with Site.serve(state, config(handshake_seconds=5, connections_per_address_max=400, **NO_RATE)) as site:
        await site.ask()
        await site.settled()
        fds = open_fds()
        async with contextlib.AsyncExitStack() as flood:
            for source, data in (("127.0.0.2", b""), ("127.0.0.3", HALF_HELLO), ("127.0.0.4", JUNK)):
                await flood.enter_async_context(sockets(site, 300, source, data))
            await assert_served_quickly(site, "127.0.0.1", seconds=4)
            await site.settled()
        await until(lambda: open_fds() <= fds)
        assert len(caplog.records) < 20
        assert (await site.ask()).status == 200


@contextlib.contextmanager
def no_file_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_fds() + 20, hard))
    hoard: list[int] = []
    try:
        # A thread that writes a file at the start gives its descriptor back.
        for pause in (0.1, 0.0):
            with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
                while True:
                    hoard.append(os.open("/dev/null", os.O_RDONLY))
            time.sleep(pause)
        yield
    finally:
        for fd in hoard:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_accepting_goes_on_after_file_descriptors_ran_out(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_connection(("127.0.0.1", site.port)) as waiting:
        with no_file_descriptors():
            await asyncio.sleep(0.5)
            assert site.gate.counters().accepted == 0
        assert caplog.messages == [f"the gate cannot accept connections: {os.strerror(errno.EMFILE)}"]
        await accepted(site, 1)
        assert (await site.ask()).status == 200
        waiting.sendall(HALF_HELLO)
    assert (await site.settled()).handshake_failed == 1


@pytest.mark.slow
async def test_the_context_is_swapped_under_load(state: StateDir) -> None:
    """Each swap brings a new server certificate; no request fails and a stream that runs is not touched."""
    async with Site.serve(state, config(**NO_RATE)) as site:
        await swap_under_load(site)


async def swap_under_load(site: Site) -> None:
    ca, client_ca = authority(site.state, "server"), authority(site.state, "client")
    trusted = certificate_pem(client_ca.certificate)
    served = 0
    done = asyncio.Event()

    async def client() -> None:
        nonlocal served
        tls, bearer = site.tls(), site.bearer()
        while not done.is_set():
            assert (await site.ask(tls, bearer)).status == 200
            served += 1

    async def stream() -> bytes:
        async with site.connect(site.tls()) as connection:
            connection.writer.write(b"GET /stream HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return await connection.reader.read()

    async with asyncio.TaskGroup() as group:
        streaming = group.create_task(stream())
        for _ in range(6):
            group.create_task(client())
        swaps = 0
        # Each client has one context for all that it asks, and some time for it.
        while swaps < 60 or served <= 20:
            swaps += 1
            pair = store_pair(issue_server(ca, ("localhost",), PROFILES.server, datetime.now(UTC)))
            site.context = server_context(pair, ("localhost",), trusted)
            await asyncio.sleep(0.02)
        done.set()
    text = streaming.result().decode()
    assert [text.find(f"\r\n{number}\n\r\n") > 0 for number in range(STREAM_CHUNKS)] == [True] * STREAM_CHUNKS
    assert (await site.settled()).handshake_failed == 0


async def test_who_was_accepted_before_a_stop_is_heard(site: Site) -> None:
    async with site.connect(site.tls()) as connection:
        site.gate.stop()
        with pytest.raises(ConnectionRefusedError):
            await site.ask()
        assert site.gate.is_arriving()
        assert (await connection.ask([site.bearer()])).status == 200
        assert not site.gate.is_arriving()
    await site.settled()


async def test_close_drops_handshakes_and_keeps_connections(site: Site) -> None:
    async with site.connect(site.tls()) as connection, sockets(site, 3, "127.0.0.2"):
        await accepted(site, 4)
        assert site.gate.is_arriving()
        await site.gate.close()
        counters = site.gate.counters()
        assert (counters.open, counters.in_handshake) == (1, 0)
        assert (await connection.ask([site.bearer()])).status == 200
        assert not site.gate.is_arriving()
        with pytest.raises(ConnectionRefusedError):
            await site.ask()
    await site.settled()


async def test_close_right_after_accept_leaves_nothing_open(site: Site) -> None:
    with socket.create_connection(("127.0.0.1", site.port)):
        site.gate._accept()
        assert site.gate.counters().in_handshake == 1
        await site.gate.close()
        assert site.gate.counters().in_handshake == 0


async def test_connections_are_without_nagles_delay(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    delays: list[int] = []
    peer = site.gate.peer

    def look(protocol: object) -> object:
        transport = protocol.transport  # type: ignore[attr-defined]
        connection = transport.get_extra_info("socket")
        delays.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        return peer(protocol)  # type: ignore[arg-type]

    monkeypatch.setattr(site.gate, "peer", look)
    await site.ask()
    assert delays == [1]


async def test_a_connection_is_dated_by_the_clock_it_is_given(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """An allowlist is confirmed from a connection that came after it, by one clock."""
    site.clock.now = datetime(2026, 11, 1, 12, tzinfo=UTC)
    seen: list[datetime] = []
    peer = site.gate.peer

    def look(protocol: web.RequestHandler) -> Peer:
        seen.append(peer(protocol).since)
        return peer(protocol)

    monkeypatch.setattr(site.gate, "peer", look)
    await site.ask()
    assert seen == [site.clock.now]


async def test_a_protocol_that_has_gone_has_no_peer(site: Site) -> None:
    with pytest.raises(ConnectionResetError):
        site.gate.peer(object())  # type: ignore[arg-type]
