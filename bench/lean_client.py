"""HTTP clients that do as little as possible: on a two-core machine they share the cores with what they measure.

Real clients run elsewhere, so what a full client library costs must not count as a server's. Both kinds only note when
which bytes came; `Recording.read` makes sense of them afterwards.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import Final, Protocol

import msgspec

from bench.answer import Piece, Recording
from bench.workload import Question

_READ_BYTES: Final = 65536
_LAST_CHUNK: Final = b"\r\n0\r\n\r\n"
_OK: Final = b"HTTP/1.1 200 "
MODEL: Final = "bench"


class LeanClient(Protocol):
    """One request at a time. `pieces`: what has come of the request under way, for those who watch."""

    pieces: list[Piece]

    async def ask(self, question: Question, prompt: str | None = None) -> Recording:
        """Sends the question, or `prompt` in place of its own, and waits for the end. It returns failures too."""
        ...

    def close(self) -> None:
        """Ends the connection."""
        ...


class ApplianceClient:
    """One kept-alive connection over mutual TLS to /v1/completions. user: the `user` field, empty for none."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str, user: str) -> None:
        self._reader = reader
        self._writer = writer
        self._key = key
        self._fields = {"model": MODEL, "stream": True, **({"user": user} if user else {})}
        self.pieces: list[Piece] = []

    @classmethod
    async def connect(cls, url: str, context: ssl.SSLContext, key: str, user: str = "") -> ApplianceClient:
        """Opens the connection, handshake included."""
        host, port = url.removeprefix("https://").split(":")
        return cls(*await asyncio.open_connection(host, int(port), ssl=context), key, user)

    async def ask(self, question: Question, prompt: str | None = None) -> Recording:
        fields: dict[str, object] = {**self._fields, "max_tokens": question.tokens}
        request = _request("/v1/completions", f"Authorization: Bearer {self._key}", fields, question, prompt)
        self.pieces = []
        return await _exchange(self._reader, self._writer, request, question.tokens, self.pieces)

    def close(self) -> None:
        self._writer.close()


class LlamaServerClient:
    """A new connection for each request to /completion: kept-alive ones break (see docs/BENCHMARKS.md)."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.pieces: list[Piece] = []

    async def ask(self, question: Question, prompt: str | None = None) -> Recording:
        fields: dict[str, object] = {"stream": True, "n_predict": question.tokens}
        request = _request("/completion", "Connection: close", fields, question, prompt)
        self.pieces = []
        sent = time.monotonic()
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError as error:
            return Recording(sent, question.tokens, (), str(error))
        try:
            return await _exchange(reader, writer, request, question.tokens, self.pieces, sent)
        finally:
            writer.close()

    def close(self) -> None:
        """Nothing stays open."""


def _request(path: str, header: str, fields: dict[str, object], question: Question, prompt: str | None) -> bytes:
    sampling = msgspec.to_builtins(question.sampling)
    body = msgspec.json.encode({**_said(sampling), **fields, "prompt": question.prompt if prompt is None else prompt})
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n{header}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _said(sampling: dict[str, object]) -> dict[str, object]:
    """What both servers call by the same name and the workloads set."""
    return {name: sampling[name] for name in ("temperature", "top_k", "top_p", "min_p", "seed", "ignore_eos")}


async def _exchange(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    request: bytes,
    tokens: int,
    pieces: list[Piece],
    sent: float | None = None,
) -> Recording:
    """Writes the request and appends what comes to `pieces` until the last chunk, or until the connection ends.

    A refusal is not chunked; it ends with its first piece.
    """
    sent = time.monotonic() if sent is None else sent
    writer.write(request)
    tail = b""
    try:
        while not tail.endswith(_LAST_CHUNK) and (data := await reader.read(_READ_BYTES)):
            pieces.append((time.monotonic(), data))
            if not pieces[0][1].startswith(_OK):
                break
            tail = (tail + data)[-len(_LAST_CHUNK) :]
    except OSError as error:
        return Recording(sent, tokens, pieces, str(error))
    return Recording(sent, tokens, pieces)
