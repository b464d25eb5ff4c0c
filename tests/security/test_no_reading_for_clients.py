"""What a request points at is never fetched: no file is opened and no connection made, by the daemon or its workers.

A file of ours that the kernel watches and a listener of ours show it wherever the tests run; strace shows every open
and connect where the machine lets it look into other processes.
"""

from __future__ import annotations

import base64
import ctypes
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import aiohttp
import psutil
import pytest

from tests.e2e.appliance_process import Appliance, running_appliance
from tests.models.pooled import build_bert

pytestmark = pytest.mark.slow

_IN_ACCESS: Final = 0x1
_IN_OPEN: Final = 0x20
MIB: Final = 2**20
AS_JSON: Final = {"Content-Type": "application/json"}
IMAGE: Final = base64.b64encode(bytes(3000)).decode()
ELSEWHERE: Final = ("file:///etc/shadow", "http://169.254.169.254/latest/meta-data/", "/etc/shadow", "gopher://a/")
SYSCALLS: Final = "open,openat,openat2,connect,sendto,sendmsg,execve"


@pytest.fixture(scope="module")
def appliance(tmp_path_factory: pytest.TempPathFactory, random_gguf: Path) -> Iterator[Appliance]:
    folder = tmp_path_factory.mktemp("pointers")
    build_bert(folder / "bert.gguf", "mean")
    (folder / "models.yaml").write_text(
        f"models:\n  - {{id: random, path: {random_gguf}, preload: true}}\n"
        f"  - {{id: bert, path: {folder / 'bert.gguf'}, preload: true}}\n"
    )
    with running_appliance(folder / "run", "--models", folder / "models.yaml") as appliance:
        yield appliance


def chat(part: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    parts = [{"type": "text", "text": "what is this?"}, part]
    return "/v1/chat/completions", {"model": "random", "messages": [{"role": "user", "content": parts}]}


def response(part: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return "/v1/responses", {"model": "random", "input": [{"role": "user", "content": [part]}]}


def message(block: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    turns = [{"role": "user", "content": [block, {"type": "text", "text": "what is this?"}]}]
    return "/v1/messages", {"model": "random", "max_tokens": 8, "messages": turns}


def tool_result(block: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return message({"type": "tool_result", "tool_use_id": "t", "content": [block]})


def pointing_at(url: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """One request for every place where a client may point at something."""
    source = {"type": "url", "url": url}
    messages = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]
    return {
        "image_url of a chat": chat({"type": "image_url", "image_url": {"url": url, "detail": "high"}}),
        "image_url alone": chat({"type": "image_url", "image_url": url}),
        "input_image of a chat": chat({"type": "input_image", "image_url": url}),
        "file of a chat": chat({"type": "file", "file": {"file_data": url, "filename": url}}),
        "video_url": chat({"type": "video_url", "video_url": {"url": url}}),
        "input_audio": chat({"type": "input_audio", "input_audio": {"data": url, "format": "wav"}}),
        "input_image": response({"type": "input_image", "image_url": url}),
        "input_image by id": response({"type": "input_image", "file_id": url}),
        "input_file": response({"type": "input_file", "file_url": url}),
        "input_file by data": response({"type": "input_file", "file_data": url, "filename": url}),
        "image": message({"type": "image", "source": source}),
        "document": message({"type": "document", "source": source}),
        "document by id": message({"type": "document", "source": {"type": "file", "file_id": url}}),
        "image of a tool": tool_result({"type": "image", "source": source}),
        "counted image": ("/v1/messages/count_tokens", message({"type": "image", "source": source})[1]),
        "image in a template": ("/apply-template", {"model": "random", "messages": messages}),
        "tokens of an image": ("/tokenize", {"model": "random", "messages": messages}),
        "messages of an embedding": ("/v1/embeddings", {"model": "bert", "messages": messages}),
        "input of an embedding": ("/v1/embeddings", {"model": "bert", "input": [{"image": url}]}),
        "document of a ranking": ("/v1/rerank", {"model": "bert", "query": "a", "documents": [{"image": url}]}),
        "schema": ("/v1/completions", {"model": "random", "prompt": "a", "json_schema": {"$ref": url}}),
    }


async def refuse_all(session: aiohttp.ClientSession, url: str) -> None:
    for name, (path, body) in pointing_at(url).items():
        async with session.post(path, json=body) as answer:
            error = (await answer.json())["error"]
            assert answer.status == 400, (name, error)
            assert len(error["message"]) < 1000, name


@contextmanager
def watched(path: Path) -> Iterator[list[bytes]]:
    """What the kernel says of who opens or reads a file while the block runs: nothing, one hopes."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_NONBLOCK)
    assert descriptor >= 0
    assert libc.inotify_add_watch(descriptor, os.fsencode(path), _IN_OPEN | _IN_ACCESS) >= 0
    seen: list[bytes] = []
    try:
        yield seen
        with suppress(BlockingIOError):
            seen.append(os.read(descriptor, 4096))
    finally:
        os.close(descriptor)


@contextmanager
def nobody_comes() -> Iterator[int]:
    """A port that fails the test where somebody connects to it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener.getsockname()[1]
        with pytest.raises(BlockingIOError):
            listener.accept()


async def test_what_a_request_points_at_is_left_alone(appliance: Appliance, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"secret")
    with watched(secret) as seen, nobody_comes() as port:
        async with appliance.session() as session:
            for url in (secret.as_uri(), str(secret), f"http://127.0.0.1:{port}/a.png", f"//127.0.0.1:{port}/a"):
                await refuse_all(session, url)
    assert not seen
    with watched(secret) as seen:
        secret.read_bytes()
    assert seen, "the watch works"


@pytest.mark.parametrize("size", [0, 20 * MIB])
async def test_data_is_not_taken_for_an_image_either(appliance: Appliance, size: int) -> None:
    url = f"data:image/png;base64,{'A' * size or IMAGE}"
    process = psutil.Process(appliance.process.pid)
    async with appliance.session() as session:
        if not size:
            await refuse_all(session, url)
            return
        before = process.memory_info().rss
        path, body = chat({"type": "image_url", "image_url": {"url": url}})
        began = time.monotonic()
        async with session.post(path, data=io.BytesIO(json.dumps(body).encode()), headers=AS_JSON) as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (400, "invalid_request")
        assert time.monotonic() - began < 30
        assert process.memory_info().rss - before < 8 * size


@pytest.mark.parametrize("announced", [True, False])
def test_a_hundred_megabytes_are_not_even_read(appliance: Appliance, tmp_path: Path, announced: bool) -> None:
    path, body = chat({"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100 * MIB}})
    file = tmp_path / "body.json"
    file.write_bytes(json.dumps(body).encode())
    bundle = appliance.bundle()
    process = psutil.Process(appliance.process.pid)
    before = process.memory_info().rss
    # fmt: off
    answer = subprocess.run(
        ["curl", "-sS", "--max-time", "60", "--cacert", bundle / "ca.crt", "--cert", bundle / "client.crt",
         "--key", bundle / "client.key", "-H", f"Authorization: Bearer {appliance.key()}", "-w", "%{http_code}",
         *([] if announced else ["-H", "Transfer-Encoding: chunked"]), "--data-binary", f"@{file}",
         f"{appliance.url}{path}"],
        capture_output=True, text=True, timeout=90, check=False,
    )
    # fmt: on
    assert answer.stdout.endswith("413") and '"body_too_large"' in answer.stdout, (answer.stdout, answer.stderr)
    assert process.memory_info().rss - before < 100 * MIB


@contextmanager
def traced(appliance: Appliance, log: Path) -> Iterator[None]:
    """Writes what the daemon and its workers ask the kernel for. Skips the test where that is not allowed."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("there is no strace")
    processes = [appliance.process.pid, *(child.pid for child in psutil.Process(appliance.process.pid).children())]
    pids = [option for pid in processes for option in ("-p", str(pid))]
    tracer = subprocess.Popen([strace, "-f", "-q", "-e", f"trace={SYSCALLS}", "-s", "200", "-o", str(log), *pids])
    try:
        deadline = time.monotonic() + 60
        while any("TracerPid:\t0" in Path(f"/proc/{pid}/status").read_text() for pid in processes):
            if tracer.poll() is not None:
                pytest.skip("other processes must not be traced here")
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield
    finally:
        if tracer.poll() is None:
            tracer.send_signal(signal.SIGINT)
        tracer.wait(60)


async def test_nothing_is_opened_and_nobody_connected_to(appliance: Appliance, tmp_path: Path) -> None:
    log = tmp_path / "strace"
    async with appliance.session() as session:
        await refuse_all(session, "https://[::1")
        with traced(appliance, log):
            for url in ELSEWHERE:
                await refuse_all(session, url)
    lines = log.read_text().splitlines()
    assert any("sendto(" in line for line in lines), "the tracer saw the worker answer"
    for line in lines:
        if re.search(r"\bsend(to|msg)\(", line):
            assert "AF_INET" not in line, line
        else:
            assert "shadow" not in line and "AF_INET" not in line and "execve" not in line, line
