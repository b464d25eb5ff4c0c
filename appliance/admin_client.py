"""The admin API as a client sees it: what the command line and the dashboard use, and nothing else of the daemon."""

from __future__ import annotations

import io
import os
import re
import socket
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import aiohttp
import msgspec
from msgspec import Struct
from yarl import URL

from appliance.errors import ApplianceError, ConfigError
from appliance.safe_text import safe_text

if TYPE_CHECKING:
    # Through the Unix socket there is no TLS, and a dashboard that watches so has no room for it.
    import ssl

PREFIX: Final = "/admin/v1"
TIMEOUT_SECONDS: Final = 300.0
# A stream of events has something to say each second.
SILENCE_SECONDS: Final = 15.0
EVENT_BYTES_MAX: Final = 32 * 2**20
_LIFE: Final = re.compile(r"([0-9]{1,6})([smhdw])")
_LIFE_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class AdminError(ApplianceError):
    """The daemon refused, or could not be reached. code: as in the answer; `unreachable` where there was none.

    cause: in short, for a line that says already what cannot be reached.
    """

    def __init__(self, code: str, message: str, cause: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.cause = cause or message


class AdminEvent(Struct, frozen=True):
    """One thing that happened. id: to go on behind it. data: JSON."""

    id: str
    kind: str
    data: bytes


def route(*segments: str) -> str:
    """A path below the admin API's root, whatever a person typed as a name: `route("keys", kid, "rotate")`.

    Raises AdminError for what can be no name at all.
    """
    for segment in segments:
        if segment in ("", ".", ".."):
            raise AdminError("invalid", f"{segment!r} is no name or id")
    return "".join(f"/{quote(segment, safe='')}" for segment in segments)


class AdminClient:
    """A client of the admin API. Belongs to one event loop.

    generation: of the credentials, as the latest answer said.
    """

    def __init__(self, connector: aiohttp.BaseConnector, base_url: str | URL) -> None:
        self._session = aiohttp.ClientSession(
            base_url, connector=connector, timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        )
        self.generation = 0

    @classmethod
    def local(cls, socket: Path) -> AdminClient:
        """Through the Unix socket; the daemon knows by the kernel who is calling."""
        return cls(aiohttp.UnixConnector(str(socket)), "http://appliance")

    @classmethod
    def remote(cls, url: str, context: ssl.SSLContext) -> AdminClient:
        """Through the remote admin port, with an administrator's certificate in `context`. Raises ConfigError."""
        try:
            parsed = URL(url)
            good = parsed.scheme == "https" and parsed.host is not None and parsed.path in ("", "/")
        except ValueError:
            good = False
        if not good:
            raise ConfigError(f"{url!r} is no address of a remote admin port; write https://llm.example:8444")
        return cls(aiohttp.TCPConnector(ssl=context), parsed.origin())

    async def get(self, path: str, **query: str | int | None) -> Any:
        """The answer to a question, as plain data. path: from `route` where a person gave part of it.

        Raises AdminError.
        """
        return await self._call("GET", path, query, None, {})

    async def post(
        self,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        plan: bool = False,
        generation: int | None = None,
        approval: str | None = None,
        idempotency_key: str | None = None,
    ) -> Any:
        """Does something, once; a lost answer is asked for again. Raises AdminError.

        plan: only says what would happen. generation: do it only if nothing has changed since. approval: of a second
        administrator. idempotency_key: of an earlier try of the same act.
        """
        headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        if generation is not None:
            headers["If-Match"] = f'"{generation}"'
        if approval is not None:
            headers["Approval"] = approval
        query: dict[str, str | int | None] = {"plan": "true"} if plan else {}
        return await self._call("POST", path, query, body or {}, headers)

    async def download(self, path: str, **query: str | int | None) -> AsyncIterator[bytes]:
        """An answer that comes piece by piece, of any size. Raises AdminError, also where it ends unfinished."""
        waiting = aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT_SECONDS, sock_read=TIMEOUT_SECONDS)
        try:
            async with self._session.get(_url(path, query), timeout=waiting, allow_redirects=False) as answer:
                if answer.status >= 400:
                    raise _refused(await answer.read(), answer.status)
                async for chunk in answer.content.iter_any():
                    yield chunk
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise AdminError(
                "unreachable", f"the appliance cannot be reached, or ended the answer early: {_reason(error)}"
            ) from error

    async def events(
        self, *kinds: str, after: str = "", silence_seconds: float = SILENCE_SECONDS
    ) -> AsyncGenerator[AdminEvent, None]:
        """What happens, for as long as it is read. kinds: of events; none: all that the caller may see.

        after: the id of the last event that is known already. Raises AdminError where the stream is lost, or nothing
        comes for so long; it ends by itself where the appliance ends it.
        """
        waiting = aiohttp.ClientTimeout(total=None, sock_connect=silence_seconds, sock_read=silence_seconds)
        headers = {"Last-Event-ID": after} if after else {}
        url = _url("/events", {"kinds": ",".join(kinds) or None})
        try:
            async with self._session.get(url, headers=headers, timeout=waiting, allow_redirects=False) as answer:
                if answer.status >= 400:
                    raise _refused(await answer.read(), answer.status)
                rest = b""
                async for chunk in answer.content.iter_any():
                    *whole, rest = (rest + chunk).split(b"\n\n")
                    if len(rest) > EVENT_BYTES_MAX:
                        raise AdminError("failed", "what answered sends events without an end")
                    for text in whole:
                        if (event := _event(text)) is not None:
                            yield event
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            cause = _reason(error)
            raise AdminError(
                "unreachable", f"the appliance cannot be reached, or ended the connection: {cause}", cause
            ) from error

    async def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str | int | None],
        body: Mapping[str, object] | None,
        headers: Mapping[str, str],
    ) -> Any:
        """Once more where the connection ended before an answer: a POST's Idempotency-Key makes that harmless."""
        url = _url(path, query)
        try:
            try:
                status, generation, raw = await self._ask(method, url, body, headers)
            except (aiohttp.ServerDisconnectedError, ConnectionResetError):
                status, generation, raw = await self._ask(method, url, body, headers)
        except TimeoutError as error:
            raise AdminError(
                "unreachable", f"the appliance did not answer within {TIMEOUT_SECONDS:.0f} s; it may still do it"
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            cause = _reason(error)
            raise AdminError(
                "unreachable", f"the appliance cannot be reached, or ended the connection: {cause}", cause
            ) from error
        if status >= 400:
            raise _refused(raw, status)
        try:
            self.generation = int(generation.strip('"'))
            return msgspec.json.decode(raw)
        except (ValueError, msgspec.DecodeError) as error:
            raise AdminError("failed", "what answered is no admin API") from error

    async def _ask(
        self, method: str, url: URL, body: Mapping[str, object] | None, headers: Mapping[str, str]
    ) -> tuple[int, str, bytes]:
        """Status, ETag and body of an answer."""
        data = None if body is None else io.BytesIO(msgspec.json.encode(body))
        async with self._session.request(method, url, data=data, headers=headers, allow_redirects=False) as answer:
            return answer.status, answer.headers.get("ETag", ""), await answer.read()

    async def __aenter__(self) -> AdminClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        await self._session.close()


def _url(path: str, query: Mapping[str, str | int | None]) -> URL:
    given = {name: str(value) for name, value in query.items() if value is not None}
    return URL(PREFIX + path, encoded=True).with_query(given or None)


def _reason(error: Exception) -> str:
    """aiohttp's exceptions tell where, not why."""
    cause = getattr(error, "os_error", None) or error.__cause__ or error
    return safe_text(getattr(cause, "strerror", None) or str(cause) or type(cause).__name__)


def _event(text: bytes) -> AdminEvent | None:
    """None for a comment, and for what is no event of ours."""
    fields = dict(line.partition(b": ")[::2] for line in text.split(b"\n"))
    if b"event" not in fields or b"data" not in fields:
        return None
    return AdminEvent(fields.get(b"id", b"").decode(), fields[b"event"].decode(), fields[b"data"])


def _refused(raw: bytes, status: int) -> AdminError:
    try:
        error = msgspec.json.decode(raw)["error"]
        return AdminError(str(error["code"]), str(error["message"]))
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError):
        return AdminError("failed", f"what answered, with status {status}, is no admin API")


def is_served(path: Path) -> bool:
    """Whether somebody listens on this socket. Raises PermissionError where this user may not ask."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(os.fspath(path))
        except BlockingIOError:
            # Its backlog is full.
            return True
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            return False
    return True


def end_of(text: str) -> dict[str, object]:
    """What somebody writes as an end, as the admin API takes it: `7d` from now, `2026-11-25 18:00` (UTC), nothing.

    The appliance counts from its own clock. Raises ValueError.
    """
    text = text.strip()
    if not text:
        return {}
    if found := _LIFE.fullmatch(text):
        return {"for_seconds": int(found[1]) * _LIFE_SECONDS[found[2]]}
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no end; write 12h, 7d or 2w from now, or 2026-11-25T18:00 (UTC)") from None
    return {"until": (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()}
