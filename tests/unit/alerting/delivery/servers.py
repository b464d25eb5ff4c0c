"""Real servers on this host that take alerts: a syslog collector, a mail server, a web server; by TLS where asked."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from aiohttp import web


@contextlib.asynccontextmanager
async def listening(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], tls: ssl.SSLContext | None
) -> AsyncIterator[int]:
    """The port; at the end every connection is cut, and `serve` has returned."""
    writers: dict[asyncio.StreamWriter, asyncio.Event] = {}

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        done = writers[writer] = asyncio.Event()
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                await serve(reader, writer)
        finally:
            writer.close()
            done.set()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer, done in writers.items():
            writer.transport.abort()
            await done.wait()
        await asyncio.sleep(0)


class Collector:
    """messages: what came, without the length in front. goodbye: closes each connection after its first bytes."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.port = 0
        self.goodbye = False

    @contextlib.asynccontextmanager
    async def serving(self, tls: ssl.SSLContext) -> AsyncIterator[Collector]:
        async with listening(self._serve, tls) as self.port:
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not self.goodbye:
            self.messages.append(await reader.readexactly(int(await reader.readuntil(b" "))))


class MailServer:
    """Speaks as much SMTP as a client needs.

    letters: what came. logins: what was shown. refuses: the first words of a command, and the answer to it. silent:
    greets nobody. clients: how many have come.
    """

    def __init__(self, tls: ssl.SSLContext | None, *, at_once: bool = False) -> None:
        self._tls = tls
        self._at_once = at_once
        self.letters: list[str] = []
        self.recipients: list[str] = []
        self.logins: list[bytes] = []
        self.commands: list[str] = []
        self.refuses: dict[str, str] = {}
        self.silent = False
        self.clients = 0
        self.port = 0

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[MailServer]:
        async with listening(self._serve, self._tls if self._at_once else None) as self.port:
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.clients += 1
        if self.silent:
            await reader.read()
            return
        writer.write(b"220 mail.test\r\n")
        while await self._answer(reader, writer):
            pass

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        line = (await reader.readuntil(b"\r\n")).decode().strip()
        self.commands.append(line)
        for words, refusal in self.refuses.items():
            if line.upper().startswith(words):
                writer.write(f"{refusal}\r\n".encode())
                return True
        match line.split(" ")[0].upper():
            case "EHLO":
                extensions = ["mail.test", "AUTH PLAIN", *(["STARTTLS"] if self._tls and not self._at_once else [])]
                *first, last = extensions
                writer.write("".join([*(f"250-{each}\r\n" for each in first), f"250 {last}\r\n"]).encode())
            case "STARTTLS":
                writer.write(b"220 go\r\n")
                await writer.drain()
                assert self._tls is not None
                await writer.start_tls(self._tls)
            case "AUTH":
                self.logins.append(base64.b64decode(line.split(" ")[2]))
                writer.write(b"235 welcome\r\n")
            case "RCPT":
                self.recipients.append(line)
                writer.write(b"250 ok\r\n")
            case "DATA":
                writer.write(b"354 go\r\n")
                letter = await reader.readuntil(b"\r\n.\r\n")
                self.letters.append(letter.decode())
                writer.write(b"250 kept\r\n")
            case "QUIT":
                writer.write(b"221 bye\r\n")
                return False
            case _:
                writer.write(b"250 ok\r\n")
        return True


class WebServer:
    """posts: (path, headers, body) of each. status: what it answers."""

    def __init__(self) -> None:
        self.posts: list[tuple[str, dict[str, str], bytes]] = []
        self.status = 200
        self.port = 0

    @contextlib.asynccontextmanager
    async def serving(self, tls: ssl.SSLContext | None) -> AsyncIterator[WebServer]:
        app = web.Application()
        app.router.add_post("/{path:.*}", self._take)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        self.port = runner.addresses[0][1]
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        self.posts.append((request.path_qs, dict(request.headers), await request.read()))
        headers = {"Location": "/elsewhere"} if self.status == 307 else {}
        return web.Response(status=self.status, text="said\x1b[31m so", headers=headers)


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context
