"""docs/nginx/front.conf: a real nginx between clients of HTTP/2 and the real daemon."""

from __future__ import annotations

import asyncio
import json
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.e2e.activation import listening_socket, serving, stopped
from tests.e2e.appliance_process import Appliance, run_command, running_appliance
from tests.e2e.load import Load, Target
from tests.fakes.gate import Steps
from tests.ports import free_port
from tests.security.authorities import openssl
from tests.security.nginx import Nginx, check, needs_nginx, running_nginx
from tests.waiting import until

pytestmark = [needs_nginx, pytest.mark.slow]

EXAMPLE: Final = Path(__file__).parents[2] / "docs/nginx/front.conf"
# What Debian's nginx.conf has around conf.d/.
AROUND: Final = """
worker_processes 2;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 768; }}
http {{
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  include {folder}/front.conf;
}}
"""
NAME: Final = "ai.example.lan"
# A proxy as it must not be: it holds pieces back, and does not heed what the appliance tells it of that.
GATHERING: Final = {
    "proxy_buffering off;": "proxy_buffering on; proxy_ignore_headers X-Accel-Buffering;",
    "gzip off;": "gzip on; gzip_types *; gzip_min_length 0;",
}
NONE: Final[Mapping[str, str]] = {}
# One kept connection of each worker, which is always in use: of more, some would be idle until they are closed.
IN_USE: Final = {"keepalive 32;": "keepalive 1;"}
MIB: Final = 2**20


def prepare(folder: Path, bundle: Path, target: int, port: int, changes: Mapping[str, str] = NONE) -> Path:
    """Follows the steps of docs/SECURITY.md with the ports and paths of a test, and returns nginx.conf.

    changes: what a test wants otherwise than the example.
    """
    folder.mkdir()
    for name in ("client.crt", "client.key", "ca.crt"):
        shutil.copy(bundle / name, folder / name)
    code, said = openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={NAME}"),
        *("-addext", f"subjectAltName=DNS:{NAME}", "-keyout", folder / "server.key", "-out", folder / "server.crt"),
    )
    assert code == 0, said
    conf = EXAMPLE.read_text()
    for there, here in {
        "/etc/nginx/appliance/": f"{folder}/",
        "/var/log/nginx/appliance.log": "/dev/stdout",
        "llm.example.lan:8443": f"127.0.0.1:{target}",
        "proxy_ssl_name llm.example.lan;": "proxy_ssl_name localhost;",
        "listen 443 ": f"listen 127.0.0.1:{port} ",
        "listen [::]:443 ": f"listen [::1]:{port} ",
        "allow 192.0.2.0/24;": "allow 127.0.0.1;",
        **changes,
    }.items():
        assert there in conf
        conf = conf.replace(there, here)
    (folder / "front.conf").write_text(conf)
    (folder / "nginx.conf").write_text(AROUND.format(folder=folder))
    return folder / "nginx.conf"


@contextmanager
def running_front(
    folder: Path, appliance: Appliance, bundle: Path, changes: Mapping[str, str] = NONE
) -> Iterator[Nginx]:
    port = free_port()
    conf = prepare(folder, bundle, int(appliance.url.rpartition(":")[2]), port, changes)
    with running_nginx(conf, f"https://{NAME}:{port}", port) as front:
        yield front


@contextmanager
def running_daemon(folder: Path, config: str = "") -> Iterator[Appliance]:
    """With the client `front`, whose bundle nginx gets."""
    with running_appliance(folder, "--demo", config=config) as appliance:
        command(appliance, "clients", "add", "front", "--out", appliance.bundle("front"))
        yield appliance


def command(appliance: Appliance, *arguments: str | Path) -> str:
    done = run_command(*arguments, "--state-dir", appliance.state, "--config", appliance.folder / "appliance.yaml")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def appliance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    with running_daemon(tmp_path_factory.mktemp("appliance")) as appliance:
        yield appliance


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory, appliance: Appliance) -> Iterator[Nginx]:
    with running_front(tmp_path_factory.mktemp("nginx") / "front", appliance, appliance.bundle("front")) as front:
        yield front


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    version: str
    headers: dict[str, list[str]]
    body: Any


@asynccontextmanager
async def curl(front: Nginx, path: str, key: str, *options: str | Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """curl as a client of HTTP/2; what it says comes line by line. Ended with the block."""
    port = front.url.rpartition(":")[2]
    process = await asyncio.create_subprocess_exec(
        *("curl", "--no-progress-meter", "--no-buffer", "--http2", "--max-time", "60"),
        *("--resolve", f"{NAME}:{port}:127.0.0.1", "--cacert", str(front.folder / "server.crt")),
        *("--header", f"Authorization: Bearer {key}", *map(str, options), f"{front.url}{path}"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        limit=MIB,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def answer_of(front: Nginx, path: str, key: str, *options: str | Path) -> Answer:
    """The whole answer, whose body is JSON, or text."""
    told = '%{stderr}{"status": %{http_code}, "version": "%{http_version}", "headers": %{header_json}}'
    async with curl(front, path, key, "--write-out", told, *options) as process:
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    try:
        body = json.loads(out)
    except ValueError:
        body = out.decode()
    return Answer(**json.loads(err), body=body)


def chat(**fields: Any) -> tuple[str, ...]:
    return posting({"model": "demo", "messages": [{"role": "user", "content": "Hello"}], **fields})


def posting(body: dict[str, Any]) -> tuple[str, ...]:
    return ("--header", "Content-Type: application/json", "--data-binary", json.dumps(body))


ENDLESS = posting({"model": "m", "prompt": "say:x hang", "stream": True})


def test_nginx_accepts_the_example(tmp_path: Path, appliance: Appliance) -> None:
    outcome = check(prepare(tmp_path / "front", appliance.bundle("front"), 8443, free_port()))
    assert outcome.returncode == 0, outcome.stderr


@pytest.mark.parametrize("sent", ["", "from-the-client-7"])
async def test_a_chat_over_http_2(appliance: Appliance, front: Nginx, sent: str) -> None:
    header = ("--header", f"X-Request-Id: {sent}") if sent else ()
    answer = await answer_of(front, "/v1/chat/completions", appliance.key("front"), *chat(max_tokens=5), *header)
    assert (answer.status, answer.version, answer.body["object"]) == (200, "2", "chat.completion")
    (request_id,) = answer.headers["x-request-id"]
    assert request_id == sent or (not sent and len(request_id) == 32)
    record = await asyncio.to_thread(appliance.record_of, request_id)
    assert (record.principal, record.outcome) == ("front", "ok")
    await until(lambda: request_id in front.accesses)
    (line,) = [line for line in front.accesses.splitlines() if request_id in line]
    assert "HTTP/2.0 POST /v1/chat/completions 200" in line
    assert appliance.key("front") not in front.accesses + front.errors


async def test_a_stream_of_a_chat(appliance: Appliance, front: Nginx) -> None:
    body = chat(stream=True, max_tokens=5)
    answer = await answer_of(front, "/v1/chat/completions", appliance.key("front"), *body)
    assert (answer.status, answer.version) == (200, "2")
    assert answer.headers["content-type"] == ["text/event-stream; charset=utf-8"]
    assert answer.body.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("changes", "gathered"),
    [
        (NONE, False),
        (GATHERING, True),
    ],
)
async def test_pieces_arrive_one_by_one(
    tmp_path: Path, scripted: Appliance, changes: Mapping[str, str], gathered: bool
) -> None:
    steps = Steps(tmp_path)
    body = posting({"model": "m", "prompt": steps.script, "stream": True})
    with running_front(tmp_path / "front", scripted, scripted.bundle(), changes) as front:
        asyncio.get_running_loop().call_later(2 if gathered else 50, steps.give_up)
        async with curl(front, "/v1/completions", scripted.key(), "--compressed", *body) as process:
            assert process.stdout is not None
            async for line in process.stdout:
                steps.take(line)
    assert steps.whole and steps.given_up is gathered


async def test_a_client_that_leaves_frees_its_slot(tmp_path: Path, scripted: Appliance) -> None:
    header = ("--header", "X-Request-Id: leaves")
    with running_front(tmp_path / "front", scripted, scripted.bundle()) as front:
        async with curl(front, "/v1/completions", scripted.key(), *ENDLESS, *header) as process:
            assert process.stdout is not None
            await process.stdout.readline()
    record = await asyncio.to_thread(scripted.record_of, "leaves")
    assert record.outcome == "client_gone"


@pytest.mark.parametrize(
    ("size", "said"), [(32 * MIB + 1, ""), (65 * MIB, "proxy: the request is larger than 64 MiB.")]
)
async def test_bodies_that_are_too_large(
    tmp_path: Path, appliance: Appliance, front: Nginx, size: int, said: str
) -> None:
    (tmp_path / "body").write_bytes(b" " * size)
    body = ("--header", "Content-Type: application/json", "--data-binary", f"@{tmp_path / 'body'}")
    answer = await answer_of(front, "/v1/chat/completions", appliance.key("front"), *body)
    assert (answer.status, answer.body["error"]["code"]) == (413, "body_too_large")
    assert len(answer.headers["x-request-id"]) == 1
    assert answer.body["error"]["message"] == said if said else "proxy" not in answer.body["error"]["message"]


async def test_tls_before_1_3_is_refused(front: Nginx) -> None:
    async with curl(front, "/v1/models", "", "--tls-max", "1.2") as process:
        _, err = await process.communicate()
    assert process.returncode == 35, err


async def test_keys_are_those_of_the_certificate_s_client(appliance: Appliance, front: Nginx) -> None:
    """One certificate for all that come through nginx; each user may have a key of its client."""
    second = command(appliance, "keys", "add", "front").strip()
    for key, status in ((second, 200), (appliance.key("demo"), 401), ("", 401)):
        assert (await answer_of(front, "/v1/models", key)).status == status


async def test_a_certificate_that_was_revoked(tmp_path: Path) -> None:
    with (
        running_daemon(tmp_path / "run") as appliance,
        running_front(tmp_path / "front", appliance, appliance.bundle("front")) as front,
    ):
        key = appliance.key("front")
        assert (await answer_of(front, "/v1/models", key)).status == 200
        _, serial = openssl("x509", "-noout", "-serial", "-in", appliance.bundle("front") / "client.crt")
        command(appliance, "certs", "revoke", serial.strip().removeprefix("serial="), "--yes", "--reason", "lost")
        # nginx may ask over a connection that is being cut.
        async with asyncio.timeout(60):
            while (answer := await answer_of(front, "/v1/models", key)).status == 502:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        assert (answer.status, answer.body["error"]["code"]) == (401, "certificate_rejected")


async def test_whom_nginx_does_not_let_in(tmp_path: Path, appliance: Appliance) -> None:
    changes = {"allow 192.0.2.0/24;": "allow 127.0.0.9;"}
    with running_front(tmp_path / "front", appliance, appliance.bundle("front"), changes) as front:
        assert (await answer_of(front, "/v1/models", appliance.key("front"))).status == 403


async def test_an_address_with_too_much_under_way(tmp_path: Path, scripted: Appliance) -> None:
    key = scripted.key()
    changes = {"limit_conn appliance_clients 64;": "limit_conn appliance_clients 1;"}
    with running_front(tmp_path / "front", scripted, scripted.bundle(), changes) as front:
        async with curl(front, "/v1/completions", key, *ENDLESS) as process:
            assert process.stdout is not None
            await process.stdout.readline()
            answer = await answer_of(front, "/v1/models", key)
        assert (answer.status, answer.body["error"]["code"]) == (429, "too_many_requests")
        assert answer.headers["retry-after"] == ["5"]


async def test_an_appliance_that_does_not_let_nginx_in(tmp_path: Path) -> None:
    config = "listeners: {api: {allow: [127.0.0.9]}}\n"
    with (
        running_daemon(tmp_path / "run", config) as appliance,
        running_front(tmp_path / "front", appliance, appliance.bundle("front")) as front,
    ):
        answer = await answer_of(front, "/v1/models", appliance.key("front"))
        assert (answer.status, answer.body["error"]["code"]) == (502, "appliance_unreachable")
        assert "Connection reset by peer" in front.errors
        appliance.wait_for("127.0.0.1 is not in the allowlist")


async def test_a_certificate_of_another_appliance(tmp_path: Path, appliance: Appliance) -> None:
    mixed = tmp_path / "mixed"
    with running_daemon(tmp_path / "other") as other:
        shutil.copytree(other.bundle("front"), mixed)
    shutil.copy(appliance.bundle("front") / "ca.crt", mixed / "ca.crt")
    with running_front(tmp_path / "front", appliance, mixed) as front:
        answer = await answer_of(front, "/v1/models", appliance.key("front"))
        assert (answer.status, answer.body["error"]["code"]) == (502, "appliance_unreachable")
        assert "alert unknown ca" in front.errors
        appliance.wait_for("127.0.0.1 presented a certificate of another CA")


async def test_a_restart_of_the_appliance(tmp_path: Path) -> None:
    """nginx has kept connections to it, and its clients notice nothing."""
    load = Load()
    with ExitStack() as stack:
        listening = stack.enter_context(listening_socket())
        first = stack.enter_context(serving(tmp_path / "run", listening))
        front = stack.enter_context(running_front(tmp_path / "front", first, first.bundle(), IN_USE))
        url = front.url.replace(NAME, "127.0.0.1")
        context = ssl.create_default_context(cafile=front.folder / "server.crt")
        context.check_hostname = False
        target = Target(url, context, first.key(), load)
        async with load.asking({"nginx": target.post, "streams": target.stream}):
            await stopped(first)
            load.when = "after"
            await asyncio.to_thread(stack.enter_context, serving(tmp_path / "run", listening))
    assert load.failed == []
    assert min(load.answered["nginx", "before"], load.answered["nginx", "after"]) > 10
    assert load.answered["streams", "after"] > 3
