"""What the appliance in front costs where another server serves the model.

    python -m bench.upstream [--streams 32] [--tokens 400] [--rate 50]

The server behind is a process of its own that computes nothing: it sends chunks as vLLM does, `rate` a second and
stream, over plain HTTP on loopback. The appliance is the real daemon over mutual TLS. Clients are lean ones. Time to
the first text is also measured at that server directly, in turns.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import msgspec

from appliance.upstream_spec import UpstreamReplica, UpstreamSpec
from bench.appliance_server import ApplianceServer, running_appliance
from bench.lean_client import MODEL, ApplianceClient
from bench.server import end_cleanly_on_sigterm
from bench.workload import numbered

TTFT_REQUESTS: Final = 100
_CHUNK: Final = (
    b'data: {"id":"cmpl-0123456789abcdef","object":"text_completion","created":1750000000,"model":"bench","choices":'
    b'[{"index":0,"text":" word","logprobs":null,"finish_reason":%b,"stop_reason":null}]}\n\n'
)
_USAGE: Final = (
    b'data: {"id":"cmpl-0123456789abcdef","object":"text_completion","created":1750000000,"model":"bench","choices":[],'
    b'"usage":{"prompt_tokens":40,"total_tokens":%d,"completion_tokens":%d,"prompt_tokens_details":{"cached_tokens":0}}}'
    b"\n\ndata: [DONE]\n\n"
)
_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_MODELS: Final = b'{"data":[{"id":"bench","max_model_len":8192}]}'


async def serve(listening: socket.socket, rate: float) -> None:
    """The server behind, until its process ends."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await _head(reader):
            if head.startswith(b"GET"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(_MODELS), _MODELS))
                continue
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            tokens = msgspec.json.decode(await reader.readexactly(length))["max_tokens"]
            writer.write(_HEAD)
            began = time.monotonic()
            for number in range(tokens):
                await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
                _write(writer, _CHUNK % (b'"length"' if number == tokens - 1 else b"null"))
            _write(writer, _USAGE % (40 + tokens, tokens))
            writer.write(b"0\r\n\r\n")

    server = await asyncio.start_server(connected, sock=listening)
    await server.serve_forever()


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(b"%x\r\n%b\r\n" % (len(data), data))


@contextmanager
def running_server(rate: float) -> Iterator[int]:
    """The server behind as a process; its port."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(1024)
        command = [sys.executable, "-m", "bench.upstream", "--rate", str(rate), "--serve", str(listening.fileno())]
        process = subprocess.Popen(command, pass_fds=(listening.fileno(),))
        try:
            yield int(listening.getsockname()[1])
        finally:
            process.kill()
            process.wait()


class PlainClient:
    """One kept-alive connection to the server behind. As ApplianceClient, but for TLS and the key."""

    @classmethod
    async def connect(cls, port: int) -> ApplianceClient:
        """Opens the connection."""
        return ApplianceClient(*await asyncio.open_connection("127.0.0.1", port), "none", "")


async def measure(streams: int, tokens: int, rate: float, server: ApplianceServer, port: int) -> None:
    """Prints the table."""
    direct = await PlainClient.connect(port)
    clients = [await server.connect() for _ in range(streams)]
    await asyncio.gather(*(client.ask(numbered(index, 32, 8)) for index, client in enumerate(clients)))
    pairs = []
    for number in range(TTFT_REQUESTS):
        question = numbered(number, 32, 2)
        pairs.append([(await client.ask(question)).read().ttft for client in (direct, clients[0])])
    added = statistics.median(through - past for past, through in pairs) * 1000
    cpu, began = sum(server.daemon.cpu_times()[:2]), time.monotonic()
    answers = await asyncio.gather(*(client.ask(numbered(index, 32, tokens)) for index, client in enumerate(clients)))
    seconds = time.monotonic() - began
    cpu = sum(server.daemon.cpu_times()[:2]) - cpu
    got = sum(answer.read().completion_tokens for answer in answers)
    past = statistics.median(past for past, _ in pairs) * 1000
    print(f"TTFT p50     direct {past:.2f} ms    added {added:.2f} ms (paired)")
    print(
        f"{streams} streams   {got / seconds:.0f} tok/s of {streams * rate:.0f}, daemon {cpu / seconds:.0%} of a core"
    )
    print(f"per token    {cpu / got * 1e6:.0f} µs of the daemon's processor time")


def main() -> None:
    """Starts both servers and measures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=400)
    parser.add_argument("--rate", type=float, default=50)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        asyncio.run(serve(socket.socket(fileno=options.serve), options.rate))
        return
    end_cleanly_on_sigterm()
    with running_server(options.rate) as port:
        replica = UpstreamReplica(base_url=f"http://127.0.0.1:{port}/v1")
        spec = UpstreamSpec(id=MODEL, replicas=(replica,), preload=True)
        with running_appliance(spec) as server:
            asyncio.run(measure(options.streams, options.tokens, options.rate, server, port))


if __name__ == "__main__":
    main()
