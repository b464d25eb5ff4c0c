"""The generated sidecar: a real nginx between a client that speaks as Dify does and the real daemon."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from appliance.access_config import ListenerMode
from appliance.config import Config
from appliance.security.dify_bundle import Endpoint
from appliance.security.opening import open_security
from appliance.state_dir import StateDir
from tests.e2e.appliance_process import Appliance, running_appliance
from tests.fakes.gate import Steps
from tests.ports import free_port
from tests.security.nginx import Nginx, check, needs_nginx
from tests.security.sidecar import GATHERING, NONE, Relay, prepare, running_sidecar
from tests.waiting import until

pytestmark = [needs_nginx, pytest.mark.slow]

MIB = 2**20


def made_bundle(folder: Path) -> Path:
    """The bundle of client `demo` of an appliance of its own."""
    state = StateDir(folder)
    state.prepare()
    open_security(state, Config(), state.path, {}, create=True).close()
    return state.clients / "demo"


@pytest.mark.parametrize("mode", ["cert_and_key", "key"])
@pytest.mark.parametrize("host", ["localhost", "192.0.2.7", "2001:db8::7"])
def test_nginx_accepts_the_configuration(tmp_path: Path, mode: ListenerMode, host: str) -> None:
    conf = prepare(tmp_path / "llm", made_bundle(tmp_path / "state"), Endpoint(host, 8443, mode))
    if mode == "key":
        (conf.parent / "client.crt").unlink()
        (conf.parent / "client.key").unlink()
    outcome = check(conf)
    assert outcome.returncode == 0, outcome.stderr
    assert "warn" not in outcome.stderr


@pytest.fixture(scope="module")
def appliance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    with running_appliance(tmp_path_factory.mktemp("appliance"), "--demo") as appliance:
        yield appliance


def port_of(appliance: Appliance) -> int:
    return int(appliance.url.rpartition(":")[2])


def endpoint(appliance: Appliance, tls_name: str | None = None) -> Endpoint:
    return Endpoint("127.0.0.1", port_of(appliance), "cert_and_key", tls_name)


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory, appliance: Appliance) -> Iterator[Nginx]:
    with running_sidecar(tmp_path_factory.mktemp("dify") / "llm", appliance.bundle(), endpoint(appliance)) as sidecar:
        yield sidecar


def as_dify(appliance: Appliance, sidecar: Nginx) -> aiohttp.ClientSession:
    """A new connection for every call, as the plugin's bare requests.post."""
    return aiohttp.ClientSession(
        sidecar.url,
        headers={"Authorization": f"Bearer {appliance.key()}"},
        connector=aiohttp.TCPConnector(force_close=True),
    )


def chat(text: str = "Hello", **fields: Any) -> dict[str, Any]:
    return {"model": "demo", "messages": [{"role": "user", "content": text}], **fields}


async def status_of(appliance: Appliance, sidecar: Nginx, path: str = "/v1/models") -> tuple[int, dict[str, Any]]:
    async with as_dify(appliance, sidecar) as session, session.get(path) as answer:
        return answer.status, await answer.json(content_type=None)


async def test_models_and_a_blocking_chat(appliance: Appliance, sidecar: Nginx) -> None:
    status, models = await status_of(appliance, sidecar)
    assert (status, [model["id"] for model in models["data"]]) == (200, ["demo"])
    assert (await status_of(appliance, sidecar, "/readyz")) == (200, {"status": "ok"})
    async with as_dify(appliance, sidecar) as session:
        answer = await session.post("/v1/chat/completions", json=chat(max_tokens=5))
        body = await answer.json()
    assert (answer.status, body["object"]) == (200, "chat.completion")
    record = await asyncio.to_thread(appliance.record_of, answer.headers["X-Request-Id"])
    assert (record.principal, record.outcome) == ("demo", "ok")
    await logged(sidecar, answer.headers["X-Request-Id"])
    assert appliance.key() not in sidecar.accesses + sidecar.errors


async def logged(sidecar: Nginx, request_id: str) -> None:
    """nginx writes its line after it has sent the answer."""
    await until(lambda: request_id in sidecar.accesses)


@pytest.mark.slow
@pytest.mark.parametrize(("changes", "gathered"), [(NONE, False), (GATHERING, True)])
async def test_a_stream_arrives_piece_by_piece(
    tmp_path: Path, scripted: Appliance, changes: Mapping[str, str], gathered: bool
) -> None:
    """And a proxy that gathers pieces would be seen."""
    steps = Steps(tmp_path)
    with running_sidecar(tmp_path / "llm", scripted.bundle(), endpoint(scripted), changes) as sidecar:
        asyncio.get_running_loop().call_later(2 if gathered else 100, steps.give_up)
        async with (
            as_dify(scripted, sidecar) as session,
            session.post("/v1/completions", json={"model": "m", "prompt": steps.script, "stream": True}) as answer,
        ):
            assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
            async for line in answer.content:
                steps.take(line)
    assert steps.whole and steps.given_up is gathered


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "status", "code"),
    [
        (3 * MIB // 2, 400, "context_length_exceeded"),
        (20 * MIB, 400, "context_length_exceeded"),
        (32 * MIB + 1, 413, "body_too_large"),
        (60 * MIB, 413, "body_too_large"),
    ],
)
async def test_large_bodies_are_the_appliance_s_business(
    appliance: Appliance, sidecar: Nginx, size: int, status: int, code: str
) -> None:
    body = msgspec.json.encode(chat("x"))
    body = body.replace(b'"x"', b'"' + b"word " * ((size - len(body)) // 5 + 1) + b'"')
    async with as_dify(appliance, sidecar) as session:
        answer = await session.post(
            "/v1/chat/completions", data=io.BytesIO(body), headers={"Content-Type": "application/json"}
        )
        error = (await answer.json())["error"]
    assert (answer.status, error["code"]) == (status, code)
    assert "llm-sidecar" not in error["message"]
    assert (await asyncio.to_thread(appliance.record_of, answer.headers["X-Request-Id"])).status == status


@pytest.mark.slow
async def test_a_body_beyond_the_sidecar_s_own_bound_says_so(appliance: Appliance, sidecar: Nginx) -> None:
    async with as_dify(appliance, sidecar) as session:
        answer = await session.post("/v1/chat/completions", data=io.BytesIO(b" " * (65 * MIB)))
        error = (await answer.json(content_type=None))["error"]
    assert (answer.status, error["code"]) == (413, "body_too_large")
    assert error["message"].startswith("llm-sidecar: ")


@pytest.mark.slow
async def test_many_calls_share_few_upstream_connections(tmp_path: Path, appliance: Appliance) -> None:
    async with Relay.to(port_of(appliance)) as (relay, port):
        target = Endpoint("127.0.0.1", port, "cert_and_key")
        with running_sidecar(tmp_path / "llm", appliance.bundle(), target) as sidecar:
            for _ in range(40):
                assert (await status_of(appliance, sidecar))[0] == 200
            assert relay.connections == 1
            together = await asyncio.gather(*(status_of(appliance, sidecar) for _ in range(40)))
            assert {status for status, _ in together} == {200}
            assert relay.connections <= 40
            before = relay.connections
            for _ in range(10):
                assert (await status_of(appliance, sidecar))[0] == 200
            assert relay.connections == before


@pytest.mark.slow
@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_frees_its_slot(tmp_path: Path, scripted: Appliance, stream: bool) -> None:
    request_id = f"leaves-{stream}"
    with running_sidecar(tmp_path / "llm", scripted.bundle(), endpoint(scripted)) as sidecar:
        async with as_dify(scripted, sidecar) as session:
            post = session.post(
                "/v1/completions",
                json={"model": "m", "prompt": "say:x hang", "stream": stream},
                headers={"X-Request-Id": request_id},
                # By then the appliance has the request.
                timeout=aiohttp.ClientTimeout(total=None if stream else 5.0),
            )
            if stream:
                async with post as answer:
                    await answer.content.readline()
            else:
                with pytest.raises(TimeoutError):
                    await post
    record = await asyncio.to_thread(scripted.record_of, request_id)
    assert record.outcome == "client_gone"


@pytest.mark.slow
async def test_a_server_of_another_name(tmp_path: Path, appliance: Appliance) -> None:
    with running_sidecar(tmp_path / "llm", appliance.bundle(), endpoint(appliance, "other.example")) as sidecar:
        status, body = await status_of(appliance, sidecar)
        assert (status, body["error"]["code"]) == (502, "appliance_unreachable")
        assert 'upstream SSL certificate does not match "other.example"' in sidecar.errors


@pytest.mark.slow
async def test_a_server_of_another_authority(tmp_path: Path, appliance: Appliance) -> None:
    foreign = made_bundle(tmp_path / "foreign")
    with running_sidecar(tmp_path / "llm", foreign, endpoint(appliance)) as sidecar:
        assert (await status_of(appliance, sidecar))[0] == 502
        assert "upstream SSL certificate verify error" in sidecar.errors


@pytest.mark.slow
async def test_a_client_certificate_of_another_appliance(tmp_path: Path, appliance: Appliance) -> None:
    mixed = made_bundle(tmp_path / "foreign")
    (mixed / "ca.crt").write_bytes((appliance.bundle() / "ca.crt").read_bytes())
    with running_sidecar(tmp_path / "llm", mixed, endpoint(appliance)) as sidecar:
        status, body = await status_of(appliance, sidecar)
        assert (status, body["error"]["code"]) == (502, "appliance_unreachable")
        assert "alert unknown ca" in sidecar.errors
        appliance.wait_for("127.0.0.1 presented a certificate of another CA")


@pytest.mark.slow
async def test_an_appliance_that_restarts_behind_a_running_sidecar(tmp_path: Path) -> None:
    port = free_port()
    with running_appliance(tmp_path / "run", "--demo", "--port", str(port)) as appliance:
        pass
    with running_sidecar(tmp_path / "llm", appliance.bundle(), Endpoint("127.0.0.1", port, "cert_and_key")) as sidecar:
        for ask_meanwhile in (False, True, False):
            with running_appliance(tmp_path / "run", "--demo", "--port", str(port)) as appliance:
                for _ in range(3):
                    assert (await status_of(appliance, sidecar))[0] == 200
            if ask_meanwhile:
                status, body = await status_of(appliance, sidecar)
                assert (status, body["error"]["code"]) == (502, "appliance_unreachable")
                assert f"127.0.0.1:{port}" in body["error"]["message"]
                assert "Connection refused" in sidecar.errors


@pytest.mark.slow
async def test_a_host_that_is_not_let_in(tmp_path: Path) -> None:
    config = "listeners: {api: {allow: [127.0.0.9]}}\n"
    with (
        running_appliance(tmp_path / "run", "--demo", config=config) as appliance,
        running_sidecar(tmp_path / "llm", appliance.bundle(), endpoint(appliance)) as sidecar,
    ):
        assert (await status_of(appliance, sidecar))[0] == 502
        assert "Connection reset by peer" in sidecar.errors
        appliance.wait_for("127.0.0.1 is not in the allowlist")
