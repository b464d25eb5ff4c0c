"""Hostile HTTP over mutual TLS: what parsers disagree about, and clients that drip, wait or never read."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import psutil
import pytest
import pytest_asyncio

from appliance.config import ConnectionLimits, RequestLimits
from appliance.state_dir import StateDir
from tests.security.gated_api import Conversation, GatedApi, check_error, gated_api, shared_api
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 2**20
TEXT = "/v1/completions"
BODY = b'{"model": "demo", "prompt": "say:x"}'
LENGTH_LINE = b"Content-Length: %d" % len(BODY)
CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GatedApi]:
    async with shared_api(StateDir(tmp_path_factory.mktemp("http") / "state")) as api:
        yield api


# ── bytes that parsers disagree about ─────────────────────────────────────────────────────────────────────────────────


def post(*headers: bytes, body: bytes = BODY) -> bytes:
    return (
        b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nAUTH"
        + b"".join(line + b"\r\n" for line in headers)
        + b"\r\n"
        + body
    )


def chunked(body: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked", body=body)


def get(target: bytes = b"/v1/models", version: bytes = b"HTTP/1.1", *headers: bytes, method: bytes = b"GET") -> bytes:
    lines = b"".join(line + b"\r\n" for line in headers)
    return b"%s %s %s\r\nHost: a\r\nAUTH%s\r\n" % (method, target, version, lines)


UPGRADE = b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"

AMBIGUOUS: dict[str, bytes] = {
    "length and chunked": post(LENGTH_LINE, b"Transfer-Encoding: chunked", body=CHUNKS),
    "chunked and length": post(b"Transfer-Encoding: chunked", LENGTH_LINE, body=CHUNKS),
    "two lengths": post(LENGTH_LINE, b"Content-Length: 5"),
    "one length twice": post(LENGTH_LINE, LENGTH_LINE),
    "list of lengths": post(b"Content-Length: 36, 36"),
    "length with a sign": post(b"Content-Length: +36"),
    "negative length": post(b"Content-Length: -1"),
    "hexadecimal length": post(b"Content-Length: 0x24"),
    "length with underscore": post(b"Content-Length: 3_6"),
    "empty length": post(b"Content-Length: "),
    "length over 64 bits": post(b"Content-Length: 18446744073709551652"),
    "folded header": post(b"X-A: b\r\n c", LENGTH_LINE),
    "folded length": post(b"Content-Length:\r\n 36"),
    "space before the colon": post(b"Content-Length : 36"),
    "space before the first header": post(LENGTH_LINE).replace(b"Host:", b" X: y\r\nHost:"),
    "no host": post(LENGTH_LINE).replace(b"Host: a\r\n", b""),
    "line feeds alone": post(LENGTH_LINE, body=b"").replace(b"\r\n", b"\n") + BODY,
    "one line feed alone": post(b"X-A: b\nX-B: c", LENGTH_LINE),
    "carriage return alone": post(b"X-A: b\rX-B: c", LENGTH_LINE),
    "NUL in a value": post(b"X-A: b\x00c", LENGTH_LINE),
    "NUL in a name": post(b"X\x00A: b", LENGTH_LINE),
    "name of 8-bit characters": post(b"X\xffA: b", LENGTH_LINE),
    "line of 9 kB": post(b"X-A: " + b"a" * 9000, LENGTH_LINE),
    "path of 9 kB": get(b"/" + b"a" * 9000),
    "200 headers": post(*(b"X-%d: a" % number for number in range(200)), LENGTH_LINE),
    "coding gzip, chunked": post(b"Transfer-Encoding: gzip, chunked", body=CHUNKS),
    "coding identity": post(b"Transfer-Encoding: identity"),
    "coding xchunked": post(b"Transfer-Encoding: xchunked", body=CHUNKS),
    "coding chunked, identity": post(b"Transfer-Encoding: chunked, identity", body=CHUNKS),
    "coding chunked twice": post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=CHUNKS),
    "coding after a vertical tab": post(b"Transfer-Encoding: \x0bchunked", body=CHUNKS),
    "coding under another name": post(b"Transfer_Encoding: chunked", body=CHUNKS),
    "chunk size 0x": chunked(b"0x" + CHUNKS),
    "chunk size with a sign": chunked(b"+" + CHUNKS),
    "negative chunk size": chunked(b"-1\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "chunk size over 64 bits": chunked(b"fffffffffffffffff\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "chunk size too small": chunked(b"5\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "chunk without its end": chunked(CHUNKS.replace(b"}\r\n", b"}")),
    "chunks by line feeds": chunked(CHUNKS.replace(b"\r\n", b"\n")),
    "line feed in a chunk extension": chunked(CHUNKS.replace(b"\r\n", b";a\nb\r\n", 1)),
    "space after a chunk size": chunked(CHUNKS.replace(b"\r\n", b" \r\n", 1)),
    "length as a trailer": chunked(CHUNKS[:-2] + b"Content-Length: 3\r\n\r\n"),
    "trailer of 9 kB": chunked(CHUNKS[:-2] + b"X: " + b"a" * 9000 + b"\r\n\r\n"),
    "HTTP/1.2": get(version=b"HTTP/1.2"),
    "http/1.1": get(version=b"http/1.1"),
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "absolute target": get(b"http://a/v1/models"),
    "absolute target elsewhere": get(b"http://169.254.169.254/v1/models"),
    "target *": get(b"*", method=b"OPTIONS"),
    "method in lower case": get(method=b"get"),
    "method that is none": get(method=b"G=T"),
    "8-bit target": get(b"/v1/models/\xff\xfe"),
    "upgrade to h2c": get(b"/v1/models", b"HTTP/1.1", *UPGRADE),
    "upgrade to h2c with a body": post(*UPGRADE, LENGTH_LINE),
    "upgrade to websocket": get(b"/v1/models", b"HTTP/1.1", b"Connection: Upgrade", b"Upgrade: websocket"),
}  # fmt: skip


@pytest.mark.parametrize("name", AMBIGUOUS)
async def test_what_parsers_disagree_about_is_refused_and_nothing_after_it_is_read(api: GatedApi, name: str) -> None:
    """A second request behind the first is what a smuggler hopes for."""
    before = len(api.records)
    data = (AMBIGUOUS[name] + get()).replace(b"AUTH", api.bearer)
    conversation = await api.send(data)
    assert conversation.closed
    (reply,) = conversation.replies
    check_error(reply, 400, "invalid_request")
    assert reply.head.startswith(b"HTTP/1.0 ") or b"\r\nConnection: close" in reply.head
    assert len(api.records) - before <= 1
    assert {record.status for record in api.records[before:]} <= {400}


@pytest.mark.parametrize(
    ("request_line", "status", "code"),
    [
        (b"GET /v1/models", 400, "invalid_request"),
        (b"GET /v1/models HTTP/0.9", 400, "invalid_request"),
        (b"GET /v1/models HTTP/1.0\r\nConnection: keep-alive", 400, "invalid_request"),
        (b"GET /v1/models HTTP/2.0", 400, "invalid_request"),
        (b"TRACE /v1/models HTTP/1.1", 405, "method_not_allowed"),
        (b"CONNECT /v1/models HTTP/1.1", 405, "method_not_allowed"),
        (b"CONNECT 192.0.2.1:443 HTTP/1.1", 405, "method_not_allowed"),
    ],
)
async def test_other_versions_and_methods_end_the_connection(
    api: GatedApi, request_line: bytes, status: int, code: str
) -> None:
    headers = b"" if request_line == b"GET /v1/models" else b"Host: a\r\n" + api.bearer
    conversation = await api.send(request_line + b"\r\n" + headers + b"\r\n")
    assert conversation.closed
    (reply,) = conversation.replies
    error = check_error(reply, status, code)
    assert api.bearer.split()[-1].decode() not in str(error)


@pytest.mark.parametrize("pause", [0, 0.1])
async def test_a_trailer_does_not_become_a_header_of_the_next_request(api: GatedApi, pause: float) -> None:
    """Behind a proxy that shares connections the next request is somebody else's."""
    before = len(api.records)
    trailers = CHUNKS[:-2] + b"X-Request-Id: smuggled\r\n\r\n"
    async with api.connect() as (reader, writer):
        writer.write(chunked(trailers).replace(b"AUTH", api.bearer))
        # Heard as it comes: what is written to a connection that is closed takes unread text with it.
        hearing = asyncio.get_running_loop().create_task(ended(reader))
        await asyncio.sleep(pause)
        writer.write(get().replace(b"AUTH", api.bearer))
        answer = await hearing
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"HTTP/1.1") == 1
    assert [record.path for record in api.records[before:]] == [TEXT]
    assert "smuggled" not in {record.id for record in api.records}


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (post(b"Transfer-Encoding:\tChunked", body=CHUNKS), 200),
        (chunked(CHUNKS.replace(b"\r\n", b";" + b"a" * 1000 + b"\r\n", 1)), 200),
        (b"\r\n\r\n" + get(), 200),
        (get(b"/v1/models", b"HTTP/1.1", b"Cookie: a=\xff;=;", b"Range: bytes=0-1", b"If-None-Match: *"), 200),
        (get(b"/v1/models?x=%00&a=%zz&api_key=x"), 200),
        (post(LENGTH_LINE, b"Content-Type: application/json; charset=\xff;;="), 200),
        (get(b"/v1/../livez"), 404),
        (get(b"/v1%2fmodels"), 404),
        (get(b"//v1/models"), 404),
        (get(b"/v1/models/%00%1b"), 404),
        (get(b"/v1/models/%ed%a0%80"), 404),
        (get(b"/v1/models/..%2f..%2fetc%2fpasswd"), 404),
    ],
)
async def test_what_is_odd_and_plain_is_answered(api: GatedApi, data: bytes, status: int) -> None:
    data = data.replace(b"AUTH", api.bearer + b"Connection: close\r\n")
    conversation = await api.send(data)
    (reply,) = conversation.replies
    assert reply.status == status
    if status != 200:
        assert reply.error["type"] == "invalid_request_error"


async def test_health_needs_no_key_and_gives_no_other_path_away(api: GatedApi) -> None:
    for target, status in (
        (b"/livez", 200),
        (b"/%6civez", 200),
        (b"//livez", 401),
        (b"/livez/", 401),
        (b"/x/../livez", 401),
    ):
        conversation = await api.send(get(target).replace(b"AUTH", b"Connection: close\r\n"))
        assert [reply.status for reply in conversation.replies] == [status]


# ── clients that drip, wait or never read ─────────────────────────────────────────────────────────────────────────────

IDLE_SECONDS = 0.4


@pytest.fixture
def state(tmp_path_factory: pytest.TempPathFactory) -> StateDir:
    state = StateDir(tmp_path_factory.mktemp("slow") / "state")
    state.prepare()
    return state


async def drip(writer: asyncio.StreamWriter, byte: bytes) -> None:
    with contextlib.suppress(ConnectionError):
        while True:
            writer.write(byte)
            await writer.drain()
            await asyncio.sleep(0.05)


async def ended(reader: asyncio.StreamReader) -> bytes:
    """What came until the other side closed."""
    raw = b""
    async with asyncio.timeout(60):
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(65536):
                raw += piece
    return raw


@pytest.mark.slow
@pytest.mark.parametrize("first", [False, True], ids=["first request", "second request"])
@pytest.mark.parametrize("dripping", [False, True], ids=["silent", "header drip"])
async def test_headers_must_arrive_in_time(state: StateDir, first: bool, dripping: bool) -> None:
    async with gated_api(state, connections=ConnectionLimits(keepalive_seconds=IDLE_SECONDS)) as api:
        began = time.monotonic()
        async with api.connect() as (reader, writer), asyncio.TaskGroup() as group:
            if first:
                writer.write(get().replace(b"AUTH", api.bearer))
                await reader.readuntil(b"]")
            if dripping:
                writer.write(b"GET /v1/models HTTP/1.1\r\nX: ")
                task = group.create_task(drip(writer, b"a"))
            await ended(reader)
            seconds = time.monotonic() - began
            if dripping:
                task.cancel()
        assert IDLE_SECONDS / 2 < seconds < IDLE_SECONDS * 50


async def test_a_body_must_arrive_in_time(state: StateDir) -> None:
    async with gated_api(state, RequestLimits(body_seconds=0.3)) as api:
        async with api.connect() as (reader, writer), asyncio.TaskGroup() as group:
            writer.write(post(b"Content-Length: 10000", body=b"").replace(b"AUTH", api.bearer))
            task = group.create_task(drip(writer, b" "))
            began = time.monotonic()
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
            assert head.startswith(b"HTTP/1.1 408 ")
            assert time.monotonic() - began < 30
            task.cancel()
        assert [record.status for record in api.records] == [408]


@pytest.mark.slow
async def test_a_connection_with_an_unread_body_ends(state: StateDir) -> None:
    """What was promised and not read is thrown away for ten seconds, in little memory; then the connection closes."""
    process = psutil.Process()
    async with gated_api(state) as api, contextlib.AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(api.connect()) for _ in range(20)]
        before = process.memory_info().rss
        promise = post(b"Content-Length: 10995116277760", body=b"").replace(b"AUTH", api.bearer)
        async with asyncio.TaskGroup() as group:
            tasks = []
            for reader, writer in connections:
                writer.write(promise)
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
                assert head.startswith(b"HTTP/1.1 413 ")
                tasks.append(group.create_task(drip(writer, b"x" * 65536)))
            await asyncio.sleep(2)
            assert process.memory_info().rss - before < 64 * MIB
            for (reader, _), task in zip(connections, tasks, strict=True):
                await ended(reader)
                task.cancel()


@pytest.mark.slow
async def test_a_client_that_never_reads_is_dropped_over_tls(state: StateDir) -> None:
    script = b" ".join([b"say:" + b"x" * 1_000_000] * 24)
    body = b'{"model": "demo", "stream": true, "prompt": "%s hang"}' % script
    async with gated_api(state, RequestLimits(slow_client_seconds=0.3)) as api, api.connect() as (reader, writer):
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(post(b"Content-Length: %d" % len(body), body=body).replace(b"AUTH", api.bearer))
        await until(lambda: api.records)
        assert api.records[0].outcome in ("client_gone", "failed"), api.records
        assert api.router.snapshots()["demo"].outstanding == 0
        writer.transport.abort()


# ── lengths ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_length_of_ten_terabytes_is_refused_at_once(api: GatedApi) -> None:
    """The body never comes, and the connection is not closed yet."""
    async with api.connect() as (reader, writer), asyncio.timeout(30):
        writer.write(post(b"Content-Length: 10995116277760", body=b"x" * 1000).replace(b"AUTH", api.bearer))
        raw = await reader.readuntil(b"\r\n\r\n") + await reader.readuntil(b"}}")
    (reply,) = Conversation(raw, closed=False).replies
    check_error(reply, 413, "body_too_large")


@pytest.mark.slow
async def test_33_mib_in_chunks_are_refused(api: GatedApi) -> None:
    piece = b"100000\r\n" + b" " * MIB + b"\r\n"
    conversation = await api.send(chunked(piece * 33 + b"0\r\n\r\n").replace(b"AUTH", api.bearer))
    assert conversation.closed
    (reply,) = conversation.replies
    check_error(reply, 413, "body_too_large")
