"""Two appliances: the one in front reaches the one behind over mutual TLS, with a certificate and a key of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from appliance.audit.record import Actor, StoredRecord
from appliance.config import load_models
from appliance.models.snapshot import InstanceState
from appliance.security.replica_files import ReplicaFiles
from appliance.state_dir import write_atomic
from appliance.upstream_spec import UpstreamSpec
from tests.api.conftest import Api, running_api, sse
from tests.e2e.appliance_process import Appliance, run_command, running_appliance
from tests.security.daemons import (
    add_client,
    admin_of,
    ask,
    audited,
    caller,
    record,
    scripted_appliance,
    text_of,
)
from tests.security.daemons import until as eventually
from tests.upstream.conftest import state
from tests.waiting import until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    """With a client `front`, whose bundle the appliance in front has."""
    with scripted_appliance(tmp_path_factory.mktemp("behind") / "run") as appliance:
        asyncio.run(add_client(appliance, "front"))
        yield appliance


def models_yaml(folder: Path, behind: Appliance, bundle: Path) -> Path:
    path = folder / "models.yaml"
    path.write_text(
        "models:\n  - id: demo\n    engine: upstream\n    model: m\n    preload: true\n    probe-seconds: 0.2\n"
        f"    replicas:\n      - base_url: {behind.url}/v1\n        key_file: {bundle}/api.key\n"
        f"        ca: {bundle}/ca.crt\n        certificate: {bundle}/client.crt\n"
        f"        private_key: {bundle}/client.key\n"
    )
    return path


async def seen(appliance: Appliance, wanted: Callable[[StoredRecord], bool]) -> None:
    """Waits until a request that is `wanted` is in the audit log of the appliance behind."""

    async def there() -> bool:
        return any(wanted(one) for one in audited(appliance, "api.request"))

    await eventually(there)


def actor_of(record: StoredRecord) -> Actor:
    assert record.actor is not None
    return record.actor


@pytest.fixture
def bundle(tmp_path: Path, behind: Appliance) -> Path:
    """A copy, in which files may change."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    for file in behind.bundle("front").iterdir():
        write_atomic(folder / file.name, file.read_bytes())
    return folder


@pytest.fixture
async def api(tmp_path: Path, behind: Appliance, bundle: Path) -> AsyncIterator[Api]:
    (spec,) = load_models(models_yaml(tmp_path, behind, bundle)).models
    assert isinstance(spec, UpstreamSpec)
    async with running_api(specs=[spec], dial=ReplicaFiles) as api:
        await api.router.preloaded()
        yield api


async def test_a_stream_through_both(api: Api, behind: Appliance) -> None:
    assert state(api) is InstanceState.READY
    answer = await api.completion("say:a sleep:0.1 say:b", stream=True, stream_options={"include_usage": True})
    text = await answer.text()
    assert text_of(text) == "ab"
    blocks: Any = sse(text)
    assert {block["model"] for block in blocks[:-1]} == {"demo"}
    assert blocks[-2]["usage"]["prompt_tokens_details"] == {"cached_tokens": 3}
    (own,) = api.records
    assert (own.prompt_tokens, own.cached_tokens, own.completion_tokens) == (7, 3, 2)
    # The same request id in both logs, and the principal there is the appliance in front.
    await seen(behind, lambda theirs: theirs.request_id == own.id and actor_of(theirs).principal == "front")


async def test_other_words_than_a_chat_s(api: Api) -> None:
    """The appliance behind is asked for a chat in both cases."""
    messages = {"model": "demo", "max_tokens": 5, "messages": [{"role": "user", "content": "started say:a say:b"}]}
    async with api.session.post("/v1/messages", json=messages) as answer:
        body = await answer.json()
    assert body["content"] == [{"type": "text", "text": "ab"}]
    assert (body["usage"]["input_tokens"], body["usage"]["cache_read_input_tokens"]) == (4, 3)
    response = {"model": "demo", "input": "started say:a say:b", "stream": True}
    async with api.session.post("/v1/responses", json=response) as answer:
        text = await answer.text()
    assert '"response.completed"' in text and '"text":"ab"' in text


async def test_the_context_is_learned_there(api: Api) -> None:
    await (await api.completion("say:a")).read()
    await until(lambda: api.router.snapshots()["demo"].n_ctx == 1000)


async def test_refusals_keep_their_code(api: Api) -> None:
    async with await api.completion("fail:context_length_exceeded") as answer:
        error = (await answer.json())["error"]
    assert (answer.status, error["code"], error["message"]) == (400, "context_length_exceeded", "told to fail")


async def test_cache_domains_are_apart_there_too(api: Api) -> None:
    domains = set()
    for authorization in ("Bearer good", "Bearer other"):
        body = {"model": "demo", "prompt": "tell"}
        async with api.session.post("/v1/completions", json=body, headers={"Authorization": authorization}) as answer:
            text = (await answer.json())["choices"][0]["text"]
        domains.add(text.partition('"cache_domain":"')[2].partition('"')[0])
    assert len(domains) == 2
    assert all(domain.startswith("principal:front:") for domain in domains)


async def test_a_client_that_leaves_ends_it_there(api: Api, behind: Appliance) -> None:
    answer = await api.completion("say:a hang", stream=True)
    await answer.content.readany()
    answer.close()
    await until(lambda: api.records)
    await seen(behind, lambda theirs: theirs.request_id == api.records[-1].id)


async def test_a_key_is_rotated_without_a_restart(api: Api, behind: Appliance, bundle: Path) -> None:
    async with admin_of(behind) as admin:
        answer = await admin.post("/keys", {"principal": "front"})
    write_atomic(bundle / "api.key", answer["key"].encode() + b"\n")
    await seen(behind, lambda theirs: actor_of(theirs).credential == answer["kid"])
    assert (await api.completion("say:a")).status == 200


async def test_files_that_break_do_not_count(api: Api, bundle: Path) -> None:
    (bundle / "api.key").chmod(0o644)
    await until(lambda: api.router.troubles())
    assert "has mode 0644" in api.router.troubles()[0]
    assert (await api.completion("say:a")).status == 200
    (bundle / "api.key").chmod(0o600)
    await until(lambda: not api.router.troubles())


async def test_without_a_certificate_it_stays_out(tmp_path: Path, behind: Appliance, bundle: Path) -> None:
    path = models_yaml(tmp_path, behind, bundle)
    lines = [line for line in path.read_text().splitlines() if "certificate" not in line and "private_key" not in line]
    path.write_text("\n".join(lines))
    (spec,) = load_models(path).models
    async with running_api(specs=[spec], dial=ReplicaFiles) as api:
        await api.router.preloaded()
        assert state(api) is InstanceState.FAILED
        assert "certificate" in api.router.troubles()[0]


async def test_a_daemon_in_front(tmp_path: Path, behind: Appliance, bundle: Path) -> None:
    """The real one, with its command line."""
    models = models_yaml(tmp_path, behind, bundle)
    checked = run_command("check", "--models", models)
    assert checked.returncode == 0, checked.stderr
    (bundle / "client.key").chmod(0o644)
    checked = run_command("check", "--models", models)
    assert (checked.returncode, "model 'demo'" in checked.stderr) == (1, True)
    (bundle / "client.key").chmod(0o600)
    with running_appliance(tmp_path / "front", "--models", models) as front:
        async with caller(front) as session, ask(session, "say:a say:b", "demo", stream=True) as answer:
            assert text_of(await answer.text()) == "ab"
        async with admin_of(front) as admin:
            status = await admin.get("/status")
            assert (status["models"], status["degraded"]) == ({"demo": "ready"}, [])
            (bundle / "client.key").chmod(0o644)

            async def told() -> bool:
                return "has mode 0644" in "".join((await admin.get("/status"))["degraded"])

            await eventually(told)
        assert (await record(front, "api.request", "ok")).resource == "demo"


async def test_one_of_two_is_killed_under_load(tmp_path: Path, behind: Appliance, bundle: Path) -> None:
    """Whatever had not begun there is answered by the other one; what had ends with an error."""
    (spec,) = load_models(models_yaml(tmp_path, behind, bundle)).models
    assert isinstance(spec, UpstreamSpec)
    with scripted_appliance(tmp_path / "second") as second:
        await add_client(second, "front")
        (other,) = load_models(models_yaml(tmp_path, second, second.bundle("front"))).models
        assert isinstance(other, UpstreamSpec)
        both = replace(spec, replicas=(*spec.replicas, *other.replicas))
        async with running_api(specs=[both], dial=ReplicaFiles) as api:
            await api.router.preloaded()
            stop = asyncio.Event()
            statuses: list[int] = []
            endings: list[bool] = []

            async def blocking() -> None:
                while not stop.is_set():
                    answer = await api.completion("sleep:0.05 say:a")
                    statuses.append(answer.status)
                    await answer.read()

            async def streaming() -> None:
                while not stop.is_set():
                    answer = await api.completion("say:a sleep:0.05 say:b", stream=True)
                    text = await answer.text()
                    endings.append("[DONE]" in text)
                    assert "[DONE]" in text or '"engine_crash"' in text

            async with asyncio.TaskGroup() as group:
                for _ in range(8):
                    group.create_task(blocking())
                    group.create_task(streaming())
                await until(lambda: len(statuses) >= 8 and len(endings) >= 8)
                second.kill()
                await until(lambda: any(record.attempts > 1 for record in api.records) and api.router.troubles())
                stop.set()
            assert set(statuses) == {200}
            # One stream of each client can have been under way there.
            assert endings.count(False) <= 8
            (trouble,) = api.router.troubles()
            assert "cannot be reached" in trouble
