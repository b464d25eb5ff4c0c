"""One request to one server over HTTP: sent, and its answer relayed as it comes."""

from __future__ import annotations

import asyncio
import contextlib
import io
import socket
import time
from http import HTTPStatus
from typing import Final, Literal

import aiohttp
from aiohttp import ClientResponse, ClientSession, ClientTimeout

from appliance.errors import ApplianceError, RequestError
from appliance.models.upstream.refusal import BUSY, RETRY_SECONDS, refusal
from appliance.models.upstream.replica import Replica
from appliance.models.upstream.sse_reader import SseReader
from appliance.models.upstream.stream import UpstreamStream
from appliance.safe_text import safe_text
from appliance.upstream_spec import ReplicaAccess, UpstreamSpec

ANSWER_BYTES_MAX: Final = 64 * 2**20
REFUSAL_BYTES_MAX: Final = 64 * 1024
# vLLM and llama-server close an idle connection after 5 s.
IDLE_CONNECTION_SECONDS: Final = 4.0
# After its end an answer has this long to end its connection's turn too, so that the next request can have it.
LAST_BYTES_SECONDS: Final = 1.0
READ_BYTES: Final = 64 * 1024
# A host that has gone without a word is noticed within about half a minute: probes of an idle connection (seconds to
# the first, between them, how many), and for how long (milliseconds) what was sent may stay unacknowledged.
_KEEPALIVE: Final = ((socket.TCP_KEEPIDLE, 15), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))
_UNACKNOWLEDGED_MS_MAX: Final = 30_000

Found = Literal["unreached", "lost", "busy", "refused", "broken"]


class TryFailed(ApplianceError):
    """One try failed. The message is for the operator and goes on from the server's address; `error` is for the client,
    should no other try follow.

    found: `unreached` no connection, so the server has nothing of the request; `lost` the connection ended before an
    answer; `busy` it has no room; `refused` it answers no request like this one, for a reason of its own; `broken` no
    other server would do better, or this one has begun.
    """

    def __init__(self, found: Found, message: str, error: RequestError) -> None:
        super().__init__(message)
        self.found: Found = found
        self.error = error


def open_session() -> ClientSession:
    """The pooled connections of one upstream model; how many is bounded by the requests. On the event loop."""
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_CONNECTION_SECONDS, socket_factory=_socket)
    return ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": "appliance", "Accept-Encoding": "identity"},
        auto_decompress=False,
        read_bufsize=READ_BYTES,
    )


async def exchange(
    session: ClientSession, replica: Replica, access: ReplicaAccess, spec: UpstreamSpec, stream: UpstreamStream
) -> None:
    """Sends the request and pushes its answer, the end included. Raises TryFailed.

    Cancelled, it ends the connection, by which the server knows that nobody waits any more.
    """
    try:
        response = await _send(session, replica, access, spec, stream)
        try:
            await _receive(response, spec, stream)
        except BaseException:
            _cut(response)
            raise
        response.release()
    except RequestError as error:
        raise TryFailed("broken", error.message, error) from error
    except ValueError as error:
        raise TryFailed("broken", str(error), _failed(spec.id, stream)) from error
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise TryFailed("unreached", f"cannot be reached: {why(error)}", _failed(spec.id, stream)) from error
    except (aiohttp.ClientError, OSError) as error:
        found: Found = "broken" if stream.began else "lost"
        raise TryFailed(found, f"ended the connection: {why(error)}", _failed(spec.id, stream)) from error


async def _send(
    session: ClientSession, replica: Replica, access: ReplicaAccess, spec: UpstreamSpec, stream: UpstreamStream
) -> ClientResponse:
    """Sends the request; the head of the answer."""
    request = stream.request
    return await session.post(
        f"{replica.base_url}/{request.endpoint}",
        data=io.BytesIO(request.body),
        headers={
            "Content-Type": "application/json",
            "X-Request-Id": request.id,
            **({} if request.traceparent is None else {"traceparent": request.traceparent}),
            **authorization(access),
        },
        ssl=access.context or True,
        timeout=ClientTimeout(total=None, connect=spec.connect_seconds),
        allow_redirects=False,
    )


async def _receive(response: ClientResponse, spec: UpstreamSpec, stream: UpstreamStream) -> None:
    if response.status != HTTPStatus.OK:
        raise await _refused(response, spec.id)
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise ValueError("sends a compressed answer, which it was asked not to")
    if stream.request.stream:
        with Silence(response, stream, spec.idle_seconds) as silence:
            await _relay(response, stream, silence)
        last, end = stream.relay.end()
    else:
        last, end = stream.relay.whole(await _read(response, ANSWER_BYTES_MAX))
    stream.push(last)
    stream.finish(end)
    with contextlib.suppress(aiohttp.ClientError, OSError):
        async with asyncio.timeout(LAST_BYTES_SECONDS):
            await _read(response, READ_BYTES)


async def _relay(response: ClientResponse, stream: UpstreamStream, silence: Silence) -> None:
    """Pushes what comes as it comes, and reads no faster than the client does."""
    reader, relay = SseReader(), stream.relay
    while not relay.done and (data := await response.content.readany()):
        for event in reader.feed(data):
            if (relayed := relay.chunk(event)) is not None:
                stream.push(relayed)
        silence.pause()
        await stream.room()
        silence.heard()


async def _refused(response: ClientResponse, model: str) -> TryFailed:
    body = await _read(response, REFUSAL_BYTES_MAX)
    status = response.status
    error = refusal(status, body, response.headers.get("Retry-After"), model)
    # What is about the request would be so elsewhere, and what makes one server fail may do so to all.
    found: Found = "busy" if status in BUSY else "broken" if error.status < 500 or status == 500 else "refused"
    return TryFailed(found, f"answers {status} {safe_text(response.reason or '')}".rstrip(), error)


async def _read(response: ClientResponse, bytes_max: int) -> bytes:
    """The rest of the body. Raises ValueError for one that is larger."""
    pieces, size = [], 0
    while data := await response.content.readany():
        pieces.append(data)
        size += len(data)
        if size > bytes_max:
            raise ValueError(f"sends an answer of more than {bytes_max} bytes")
    return b"".join(pieces)


class Silence:
    """Cuts a stream off that has begun and then says nothing for `seconds`. A context manager around its reads.

    Raises ValueError in the place of what the cut looks like. One timer a stream, not a timeout a read.
    """

    def __init__(self, response: ClientResponse, stream: UpstreamStream, seconds: float) -> None:
        self._response = response
        self._stream = stream
        self._seconds = seconds
        self._since: float | None = time.monotonic()
        self._timer: asyncio.TimerHandle | None = None
        self._cut = False

    def heard(self) -> None:
        """Something came, and the next read begins."""
        self._since = time.monotonic()

    def pause(self) -> None:
        """It is not read: its silence is ours."""
        self._since = None

    def __enter__(self) -> Silence:
        self._watch()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._cut and isinstance(error, Exception):
            raise ValueError(f"has said nothing for {self._seconds:g} s in the middle of an answer") from error

    def _watch(self) -> None:
        # What has not begun may wait for its turn over there, for as long as the request has.
        waited = time.monotonic() - self._since if self._since is not None and self._stream.began else 0.0
        if waited >= self._seconds:
            self._cut = True
            _cut(self._response)
        else:
            self._timer = asyncio.get_running_loop().call_later(self._seconds - waited, self._watch)


def authorization(access: ReplicaAccess) -> dict[str, str]:
    """The header with our key, where we have one."""
    return {} if access.authorization is None else {"Authorization": access.authorization}


def why(error: BaseException) -> str:
    """aiohttp's exceptions tell where, not why."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error.__cause__ or error
    return safe_text(getattr(cause, "strerror", None) or str(cause) or type(cause).__name__)


def _failed(model: str, stream: UpstreamStream) -> RequestError:
    """Where the server is, and what it did, is in our log and status: a client learns that it may try again."""
    if stream.began:
        return RequestError("engine_crash", f"the server of model {model!r} failed while it answered; try again")
    return RequestError(
        "model_unavailable",
        f"model {model!r} cannot be served: its server failed; try again later",
        retry_after=RETRY_SECONDS,
    )


def _cut(response: ClientResponse) -> None:
    """Ends the connection at once, without TLS's farewell, for which a server that talks would not stop."""
    if response.connection is not None and response.connection.transport is not None:
        response.connection.transport.abort()
    response.close()


def _socket(address: tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, object]) -> socket.socket:
    family, kind, protocol, _, _ = address
    opened = socket.socket(family, kind, protocol)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        opened.setsockopt(socket.IPPROTO_TCP, option, value)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MS_MAX)
    return opened
