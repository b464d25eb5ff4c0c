"""A small OpenAI-compatible server of another make, whose answers the prompts decide: vLLM's stream, and its faults.

The last message of a chat (or the prompt of a completion) is a script of words:

    say:TEXT        one chunk          sleep:SECONDS   wait
    status:NUMBER   answer with it     error           an error chunk
    cut             end the connection done            [DONE] at once
    garbage         no JSON            other           JSON that is no chunk
    huge            an event too large lines           CRLF, comments and event names between the chunks
    hang            say nothing more   nousage         no usage at the end
    flood:NUMBER    so many large chunks
    choice          one nobody asked for
    think:TEXT      a thought          call:NAME       a call, in a stream in two pieces
    stop:TEXT       the end, by this stop text, as vLLM says it
    wait            until the test releases `go` once for it
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

FLOOD_CHARS = 20_000
# Of 0 aiohttp makes no limit at all, and a connection that comes as the server ends would be waited for.
_STOP_SECONDS = 0.05
ERRORS: Mapping[int, dict[str, Any]] = {
    400: {
        "error": {"message": "max_tokens is too large", "param": "max_tokens", "type": "BadRequestError", "code": 400}
    },
    422: {"detail": "no such field"},
    429: {"error": "overloaded"},
}


def _script(body: dict[str, Any]) -> str:
    if "messages" in body:
        return str(body["messages"][-1]["content"])
    return str(next(body[name] for name in ("prompt", "input", "query") if name in body))


def _call(name: str) -> dict[str, Any]:
    return {"id": f"call_{name}", "type": "function", "function": {"name": name, "arguments": '{"a":1}'}}


@dataclass
class OtherServer:
    """url: with /v1. gone: requests whose client left before their end. healthy, served: what a probe hears.

    fingerprint: what its answers have as such. busy: how many requests it has. go: for those that `wait`.
    """

    name: str = "other"
    key: str | None = None
    port: int = 0
    healthy: bool = True
    served: str = "theirs"
    fingerprint: object = None
    requests: list[tuple[Mapping[str, str], dict[str, Any]]] = field(default_factory=list)
    connections: set[object] = field(default_factory=set)
    gone: int = 0
    probes: int = 0
    busy: int = 0
    go: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    _runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def _version(self) -> dict[str, object]:
        return {} if self.fingerprint is None else {"system_fingerprint": self.fingerprint}

    async def start(self, context: ssl.SSLContext | None = None) -> None:
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/completions", self._chat)
        app.router.add_post("/v1/embeddings", self._chat)
        app.router.add_post("/v1/rerank", self._chat)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/health", self._models)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=_STOP_SECONDS)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=context)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """As its end would: connections are cut."""
        if self._runner is not None:
            for connection in list(self._runner.server.connections) if self._runner.server else []:
                if connection.transport is not None:
                    connection.transport.abort()
            await self._runner.cleanup()
            self._runner = None

    async def _models(self, http: web.Request) -> web.Response:
        self.probes += 1
        if not self.healthy or not self._admits(http):
            return web.Response(status=503 if self._admits(http) else 401)
        return web.json_response({"data": [{"id": self.served, "max_model_len": 4321}]})

    def _admits(self, http: web.Request) -> bool:
        return self.key is None or http.headers.get("Authorization") == f"Bearer {self.key}"

    async def _chat(self, http: web.Request) -> web.StreamResponse:
        if not self._admits(http):
            return web.json_response({"error": {"message": "no", "code": "invalid_api_key"}}, status=401)
        body = await http.json()
        self.requests.append((http.headers.copy(), body))
        self.connections.add(http.transport)
        self.busy += 1
        try:
            return await self._play(http, body)
        except (asyncio.CancelledError, ConnectionError):
            self.gone += 1
            raise
        finally:
            self.busy -= 1

    async def _play(self, http: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        script = _script(body)
        words = script.split(" ")
        for word in words:
            verb, _, argument = word.partition(":")
            if verb == "status":
                status = int(argument)
                headers = {"Retry-After": "7"} if status in (429, 503) else {"Location": "/"} if status == 302 else {}
                return web.json_response(ERRORS.get(status, {}), status=status, headers=headers)
        return await (self._stream if body.get("stream") else self._whole)(http, body, words)

    async def _whole(self, http: web.Request, body: dict[str, Any], words: list[str]) -> web.StreamResponse:
        said = ""
        message: dict[str, Any] = {}
        end: dict[str, Any] = {"finish_reason": "stop"}
        for word in words:
            verb, _, argument = word.partition(":")
            match verb:
                case "say":
                    said += argument
                case "think":
                    message["reasoning_content"] = argument
                case "call":
                    message.setdefault("tool_calls", []).append(_call(argument))
                case "stop":
                    end["stop_reason"] = argument
                case "sleep":
                    await asyncio.sleep(float(argument))
                case "wait":
                    await self.go.acquire()
                case "cut":
                    assert http.transport is not None
                    http.transport.abort()
                case "garbage":
                    return web.Response(text="<html>")
                case "huge":
                    return web.json_response({"choices": [{"message": {"content": "x" * 65 * 2**20}}]})
                case "error":
                    return web.json_response({"error": {"message": "CUDA is out of memory"}})
        usage = {} if "nousage" in words else {"usage": {"prompt_tokens": 11, "completion_tokens": 5}}
        if "messages" not in body and "prompt" not in body:
            found = "data" if "input" in body else "results"
            return web.json_response({found: [{"index": 0}], "model": body["model"], "from": self.name, **usage})
        answer = {"id": "a", "object": "chat.completion", "model": body["model"], "from": self.name, **self._version}
        choice = {"index": 0, "message": {"role": "assistant", "content": said, **message}, **end}
        return web.json_response({**answer, "choices": [choice], **usage})

    async def _stream(self, http: web.Request, body: dict[str, Any], words: list[str]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(http)

        async def send(chunk: object, *, end: str = "\n\n") -> None:
            await response.write(f"data: {json.dumps(chunk)}{end}".encode())

        def chunk(delta: dict[str, Any], reason: str | None = None, **further: Any) -> dict[str, Any]:
            text = body.get("prompt") is not None
            said = {"text": delta.get("content", "")} if text else {"delta": delta}
            choice = {"index": 0, **said, "finish_reason": reason, **further}
            head = {"id": "a", "object": "chunk", "model": body["model"], "from": self.name, **self._version}
            return {**head, "choices": [choice]}

        said = calls = 0
        end: dict[str, Any] = {}
        await send(chunk({"role": "assistant", "content": ""}))
        for word in words:
            verb, _, argument = word.partition(":")
            match verb:
                case "say":
                    said += 1
                    await send(chunk({"content": argument}), end="\r\n\r\n" if "lines" in words else "\n\n")
                    if "lines" in words:
                        await response.write(b": ping\r\n\r\nevent: message\r\nid: 1\r\n\r\n")
                case "think":
                    await send(chunk({"reasoning_content": argument}))
                case "call":
                    called = _call(argument)
                    begun = {**called, "index": calls, "function": {"name": argument, "arguments": '{"a"'}}
                    await send(chunk({"tool_calls": [begun]}))
                    await send(chunk({"tool_calls": [{"index": calls, "function": {"arguments": ":1}"}}]}))
                    calls += 1
                case "stop":
                    end["stop_reason"] = argument
                case "flood":
                    for _ in range(int(argument)):
                        await send(chunk({"content": "x" * FLOOD_CHARS}))
                case "sleep":
                    await asyncio.sleep(float(argument))
                case "wait":
                    await self.go.acquire()
                case "cut":
                    assert http.transport is not None
                    http.transport.abort()
                    await asyncio.sleep(1)
                case "hang":
                    await asyncio.sleep(60)
                case "garbage":
                    await response.write(b"data: {nonsense\n\n")
                case "other":
                    await send({"choices": [{"index": "first"}]})
                case "choice":
                    await send({"choices": [{"index": 7, "delta": {"content": "x"}}]})
                case "huge":
                    await response.write(b"data: " + b"x" * (5 * 2**20))
                case "error":
                    await send({"error": {"message": "CUDA is out of memory", "code": "no_idea"}})
                    return response
                case "done":
                    await response.write(b"data: [DONE]\n\n")
                    return response
        await send(chunk({}, "tool_calls" if "tools" in body else "stop", **end))
        if "nousage" not in words and body.get("stream_options", {}).get("include_usage"):
            usage = {"prompt_tokens": 11, "completion_tokens": said, "prompt_tokens_details": {"cached_tokens": 4}}
            await send({"id": "a", "object": "chunk", "model": body["model"], "choices": [], "usage": usage})
        await response.write(b"data: [DONE]\n\n")
        return response


@asynccontextmanager
async def other_server(**fields: Any) -> AsyncIterator[OtherServer]:
    """A running one."""
    server = OtherServer(**fields)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
