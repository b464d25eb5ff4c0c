"""A small client of our own API: what `appliance run` talks through. Streams answers over mutual TLS."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec

from appliance.errors import ApplianceError

_LINE_BYTES_MAX: Final = 1 << 20


class ChatClient:
    """One connection's worth of chat with one model. An async context manager.

    url: the API without `/v1`. context: presents the client's certificate. Errors are ApplianceErrors with a
    sentence for the person at the terminal.
    """

    def __init__(self, url: str, key: str, context: ssl.SSLContext, model: str) -> None:
        self._url = url
        self._model = model
        self._context = context
        self._headers = {"Authorization": f"Bearer {key}"}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> ChatClient:
        self._session = aiohttp.ClientSession(
            headers=self._headers,
            connector=aiohttp.TCPConnector(ssl=self._context),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=300),
            read_bufsize=_LINE_BYTES_MAX,
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._session is not None
        await self._session.close()

    async def stream(self, messages: Sequence[dict[str, str]], **parameters: Any) -> AsyncIterator[str]:
        """The answer to `messages`, piece by piece."""
        assert self._session is not None
        body = {"model": self._model, "messages": list(messages), "stream": True, **parameters}
        try:
            async with self._session.post(f"{self._url}/v1/chat/completions", json=body) as answer:
                if answer.status != 200:
                    raise ApplianceError(_message(await answer.read()))
                async for line in answer.content:
                    if (text := _text(line)) is not None:
                        yield text
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ApplianceError(f"no answer from {self._url}: {error or type(error).__name__}") from error


def _text(line: bytes) -> str | None:
    """The text of one SSE line, None where it has none."""
    if not line.startswith(b"data: {"):
        return None
    chunk = msgspec.json.decode(line[len(b"data: ") :])
    if "error" in chunk:
        raise ApplianceError(chunk["error"]["message"])
    choices = chunk["choices"]
    content = choices[0]["delta"].get("content") if choices else None
    return content if isinstance(content, str) else None


def _message(body: bytes) -> str:
    try:
        return str(msgspec.json.decode(body)["error"]["message"])
    except (msgspec.MsgspecError, KeyError, TypeError):
        return body[:500].decode(errors="replace")


def read_key(bundle: Path) -> str:
    """The API key of a client bundle. Raises ApplianceError."""
    try:
        return (bundle / "api.key").read_text().strip()
    except OSError as error:
        raise ApplianceError(f"cannot read {bundle / 'api.key'}: {error.strerror}") from error
