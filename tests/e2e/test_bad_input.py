"""Bad models, hostile templates, bad bodies and strangers, against the real daemon over mutual TLS."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
import time
from typing import Any

import aiohttp
import msgspec
import pytest

from tests.e2e.appliance_process import Appliance, run_command
from tests.e2e.conftest import HOSTILE_TEMPLATES
from tests.models.recite import recited
from tests.models.vocabulary import word

pytestmark = pytest.mark.slow


async def ask(session: aiohttp.ClientSession, model: str, text: str = "a", **fields: Any) -> tuple[int, dict[str, Any]]:
    body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 8, **fields}
    async with session.post("/v1/chat/completions", json=body) as answer:
        return answer.status, await answer.json()


async def serves_on(session: aiohttp.ClientSession) -> None:
    status, body = await ask(session, "recite", word(0))
    assert status == 200
    assert body["choices"][0]["message"]["content"] == recited(0, 8)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("truncated", "truncated.gguf"),
        # Why a file cannot be loaded is tested on the worker, in tests/engine/test_loading.py.
        *(
            pytest.param(model, reason, marks=pytest.mark.slow)
            for model, reason in (
                ("text", "not a GGUF"),
                ("header", "header.gguf"),
                ("alien", "alien"),
                ("missing", "missing.gguf"),
            )
        ),
    ],
)
async def test_a_bad_model_says_why_and_the_daemon_serves_on(zoo: Appliance, model: str, reason: str) -> None:
    async with zoo.session() as session:
        status, body = await ask(session, model)
        assert (status, body["error"]["code"]) == (503, "model_unavailable")
        assert reason in body["error"]["message"]
        await serves_on(session)


@pytest.mark.parametrize("model", list(HOSTILE_TEMPLATES))
@pytest.mark.slow
async def test_a_hostile_template_is_refused_in_the_worker(zoo: Appliance, model: str) -> None:
    async with zoo.session() as session:
        began = time.monotonic()
        status, body = await ask(session, model)
        assert (status, body["error"]["code"]) == (400, "template_error")
        assert time.monotonic() - began < 60
        await serves_on(session)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"model": "recite", "x": ' + b"[" * 10**6, 400),
        (b'{"model": "recite", "temperature": NaN}', 400),
        (b'{"model": "recite", "messages": [{"role": "user", "content": "\\ud800"}]}', 400),
        (b'{"model": "recite", "messages": [{"role": "user", "content": "\xff\xfe"}]}', 400),
        (b"\x00" * 1000, 400),
        (b" " * (33 * 2**20), 413),
    ],
    ids=["deep", "nan", "surrogate", "utf8", "not-json", "33MiB"],
)
async def test_bad_bodies_over_tls(zoo: Appliance, body: bytes, status: int) -> None:
    async def pieces() -> Any:
        for start in range(0, len(body), 65536):
            yield body[start : start + 65536]

    async with zoo.session() as session:
        async with session.post(
            "/v1/chat/completions", data=pieces(), headers={"Content-Length": str(len(body))}
        ) as answer:
            assert answer.status == status
            assert set((await answer.json())["error"]) >= {"message", "type", "param", "code"}
        await serves_on(session)


def curl(appliance: Appliance, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["curl", "-sS", "--max-time", "60", "--cacert", str(appliance.bundle() / "ca.crt"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)


def with_certificate(appliance: Appliance, client: str = "demo") -> list[str]:
    bundle = appliance.bundle(client)
    return ["--cert", str(bundle / "client.crt"), "--key", str(bundle / "client.key")]


def test_strangers_are_refused_and_the_log_says_which_and_from_where(zoo: Appliance, demo: Appliance) -> None:
    url = f"{zoo.url}/v1/models"
    refusals = [
        (curl(zoo, url.replace("https", "http")), "spoke plain HTTP"),
        (curl(zoo, "--tls-max", "1.2", *with_certificate(zoo), url), "offered TLS 1.2 at most"),
        (curl(zoo, url), "presented no certificate"),
        (curl(zoo, *with_certificate(demo), url), "presented a certificate"),
    ]
    for outcome, reason in refusals:
        assert outcome.returncode != 0, outcome.stdout
        zoo.wait_for(f"127.0.0.1 {reason}")


def test_keys_that_do_not_fit_are_401(zoo: Appliance, demo: Appliance) -> None:
    assert run_command("clients", "add", "other", "--state-dir", zoo.state).returncode == 0
    url = f"{zoo.url}/v1/models"
    for key, code in [
        (None, "missing_api_key"),
        ("Bearer nonsense", "invalid_api_key"),
        (f"Bearer {demo.key()}", "invalid_api_key"),
        (f"Bearer {zoo.key('other')}", "invalid_api_key"),
    ]:
        header = [] if key is None else ["-H", f"Authorization: {key}"]
        answer = curl(zoo, *with_certificate(zoo), *header, "-w", "%{http_code}", url)
        assert answer.stdout.endswith("401")
        assert f'"code":"{code}"' in answer.stdout


@pytest.mark.slow
async def test_64_streams_lose_repeat_and_reorder_nothing(zoo: Appliance) -> None:
    async def stream(session: aiohttp.ClientSession, start: int) -> str:
        body = {"model": "recite", "prompt": word(start), "max_tokens": 200, "stream": True}
        text = ""
        async with session.post("/v1/completions", json=body) as answer:
            async for line in answer.content:
                if line.startswith(b"data: {"):
                    text += msgspec.json.decode(line[len(b"data: ") :])["choices"][0]["text"]
        return text

    async with zoo.session() as session:
        texts = await asyncio.gather(*(stream(session, start * 4) for start in range(64)))
    assert texts == [recited(start * 4, 200) for start in range(64)]


async def test_a_stranger_cannot_speak_http_2_or_reach_without_tls(zoo: Appliance) -> None:
    context = ssl.create_default_context(cafile=str(zoo.bundle() / "ca.crt"))
    context.load_cert_chain(zoo.bundle() / "client.crt", zoo.bundle() / "client.key")
    context.set_alpn_protocols(["h2"])
    host, port = zoo.url.removeprefix("https://").split(":")
    try:
        reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
    except (ssl.SSLError, ConnectionError):
        return
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    with contextlib.suppress(ConnectionError):
        assert b"HTTP/2" not in await reader.read()
    writer.close()
