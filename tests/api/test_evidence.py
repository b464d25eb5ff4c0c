"""Every answer says which version of a model made it, and leaves what is needed to have it again."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from appliance.alias_spec import AliasSpec, FallbackSpec, ModelsFile
from appliance.models.provenance import Provenance
from appliance.models.version import ModelVersion
from appliance.telemetry.request_record import RequestRecord
from appliance.types import ModelSpec, SamplingParams
from tests.api.conftest import SEED, Api, ApiFactory, sse
from tests.waiting import until


@dataclass
class Archive:
    """Remembers versions, and knows a file's hash once `known` is set."""

    versions: dict[str, ModelVersion] = field(default_factory=dict)
    known: asyncio.Event = field(default_factory=asyncio.Event)

    async def keep(self, fingerprint: str, version: ModelVersion) -> None:
        self.versions[fingerprint] = version

    async def sha256_of(self, path: str) -> str | None:
        await self.known.wait()
        return "5ha"


@pytest.fixture
def archive() -> Archive:
    return Archive()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "demo.gguf"
    path.write_bytes(b"GGUF one")
    return path


@pytest.fixture
async def api(start_api: ApiFactory, model: Path, archive: Archive) -> Api:
    provenance = Provenance(archive.keep, archive.sha256_of)
    return await start_api(specs=[ModelSpec(id="demo", path=str(model))], provenance=provenance)


@pytest.mark.parametrize("n", [1, 2])
async def test_every_chunk_and_body_has_the_fingerprint(api: Api, archive: Archive, n: int) -> None:
    script = "started say:a say:b"
    usage = {"stream_options": {"include_usage": True}}
    said: set[Any] = set()
    for ask in (api.chat, api.completion):
        said.add((await (await ask(script, n=n)).json())["system_fingerprint"])
        events = sse(await (await ask(script, n=n, stream=True, **usage)).text())
        said |= {event["system_fingerprint"] for event in events if isinstance(event, dict)}
    (fingerprint,) = said
    assert list(archive.versions) == [fingerprint]
    assert [record.system_fingerprint for record in await filed(api, 4)] == [fingerprint] * 4


async def test_a_request_leaves_what_a_replay_needs(api: Api) -> None:
    answer = await api.completion("tell", temperature=0.5, top_k=3, n=2, max_tokens=9, stop=["x", "y"])
    text = (await answer.json())["choices"][1]["text"]
    assert f'"seed":{SEED + 1},' in text
    evidence = (await filed(api, 1))[0].evidence
    assert evidence is not None
    assert (evidence.seed, evidence.n, evidence.max_tokens, evidence.withheld) == (SEED, 2, 9, {"stop": 2})
    assert evidence.sampling == {"temperature": 0.5, "top_k": 3}


@pytest.mark.parametrize(("fields", "seed"), [({"seed": 7}, 7), ({"temperature": 0}, None), ({}, SEED)])
async def test_a_seed_is_drawn_where_chance_needs_one(api: Api, fields: dict[str, Any], seed: int | None) -> None:
    body = await (await api.completion("tell", **fields)).json()
    assert f'"seed":{"null" if seed is None else seed},' in body["choices"][0]["text"]
    evidence = (await filed(api, 1))[0].evidence
    assert evidence is not None and evidence.seed == seed


async def test_the_hash_is_in_the_evidence_once_it_is_known(api: Api, archive: Archive) -> None:
    await (await api.chat("say:x")).json()
    archive.known.set()
    await asyncio.sleep(0.01)
    await (await api.chat("say:x")).json()
    assert [record.evidence and record.evidence.file_sha256 for record in await filed(api, 2)] == [None, "5ha"]


async def test_a_replaced_model_s_requests_keep_their_version(api: Api, model: Path) -> None:
    """One that runs while another file takes the old one's place is of the worker that runs it."""
    before = (await (await api.chat("say:x")).json())["system_fingerprint"]
    async with asyncio.TaskGroup() as group:
        running = group.create_task(api.chat("started say:a sleep:0.5 say:b", stream=True))
        await until(lambda: api.router.outstanding == 1)
        _replace(model)
        done: list[str | None] = []
        same = ModelsFile(models=tuple(api.router.specs()))
        api.router.registry.apply(same, 10, lambda model, failure: done.append(failure))
        await until(lambda: api.router.registry.instances()[0].generation == 2)
        after = (await (await api.chat("say:y")).json())["system_fingerprint"]
        events = sse(await (await running).text())
    assert {event["system_fingerprint"] for event in events if isinstance(event, dict)} == {before}
    assert after not in (before, None)
    found = [(record.stream, record.system_fingerprint) for record in await filed(api, 3)]
    assert sorted(found) == sorted([(False, before), (False, after), (True, before)])


async def test_a_worker_that_comes_again_has_the_version_of_its_file(api: Api, model: Path) -> None:
    before = (await (await api.chat("say:x")).json())["system_fingerprint"]
    await (await api.chat("say:x crash", stream=True)).text()
    assert (await (await api.chat("say:x")).json())["system_fingerprint"] == before
    _replace(model)
    await (await api.chat("say:x crash", stream=True)).text()
    assert (await (await api.chat("say:x")).json())["system_fingerprint"] not in (before, None)


async def test_a_file_that_cannot_be_read_has_none(start_api: ApiFactory) -> None:
    api = await start_api()
    body = await (await api.chat("say:x")).json()
    assert body["system_fingerprint"] is None
    (record,) = await filed(api, 1)
    assert record.system_fingerprint is None and record.evidence is not None


async def test_what_was_never_answered_has_no_evidence(start_api: ApiFactory) -> None:
    api = await start_api(load="fail", preload=False)
    assert (await api.chat("say:x")).status == 503
    assert (await api.chat("say:x", model="nobody")).status == 404
    assert [record.evidence for record in await filed(api, 2)] == [None, None]


async def test_a_copy_for_a_version_on_trial_has_its_own_evidence(start_api: ApiFactory, tmp_path: Path) -> None:
    specs = []
    for name, seed in (("old", 1), ("new", 2)):
        (tmp_path / name).write_text(f"GGUF {name}")
        specs.append(ModelSpec(id=name, path=str(tmp_path / name), sampling=SamplingParams(seed=seed)))
    api = await start_api(specs=specs, aliases={"chat": AliasSpec(versions={"old": 1})})
    api.router.registry.routes.set_mirror("chat", "new")
    body = await (await api.chat("say:x", model="chat")).json()
    copy, answer = sorted(await filed(api, 2), key=lambda record: not record.mirrored)
    assert answer.system_fingerprint == body["system_fingerprint"] != copy.system_fingerprint
    assert [one.evidence and one.evidence.seed for one in (answer, copy)] == [1, 2]
    assert copy.system_fingerprint is not None


async def filed(api: Api, count: int) -> list[RequestRecord]:
    """The records of so many requests: one is filed just after its answer has ended."""
    await until(lambda: len(api.records) == count)
    return api.records


def _replace(model: Path) -> None:
    new = model.with_name("new")
    new.write_bytes(b"GGUF two")
    new.replace(model)


async def test_what_steps_in_says_who_made_its_answer(start_api: ApiFactory, tmp_path: Path, archive: Archive) -> None:
    specs = []
    for name, seed in (("new", 2), ("small", 3)):
        (tmp_path / name).write_text(f"GGUF {name}")
        specs.append(ModelSpec(id=name, path=str(tmp_path / name), sampling=SamplingParams(temperature=0, seed=seed)))
    fallback = FallbackSpec(models=("small",), answer="sorry")
    aliases = {"chat": AliasSpec(versions={"new": 1}, fallback=fallback)}
    api = await start_api(specs=specs, aliases=aliases, provenance=Provenance(keep=archive.keep))

    async def asked(script: str) -> Any:
        return (await (await api.chat(script, model="chat")).json())["system_fingerprint"]

    new, small = await asked("say:x"), await asked("2?fail:internal_error say:x")
    assert len({new, small, None}) == 3
    assert await asked("fail:internal_error") is None
    found = [(one.model, one.system_fingerprint, one.evidence and one.evidence.seed) for one in await filed(api, 3)]
    assert found == [("new", new, 2), ("small", small, 3), (None, None, None)]


async def test_a_repeat_is_of_the_version_that_made_it(start_api: ApiFactory, model: Path) -> None:
    spec = ModelSpec(id="new", path=str(model), sampling=SamplingParams(temperature=0))
    aliases = {"chat": AliasSpec(versions={"new": 1}, fallback=FallbackSpec(repeats_mib=1))}
    api = await start_api(specs=[spec], aliases=aliases)
    made = (await (await api.chat("say:x", model="chat")).json())["system_fingerprint"]
    assert made is not None
    for _ in range(5):
        api.router.failed("new", "deadline_exceeded", 0)
    body = await (await api.chat("say:x", model="chat")).json()
    assert (body["system_fingerprint"], body["choices"][0]["message"]["content"]) == (made, "x")
    records = await filed(api, 2)
    assert [one.system_fingerprint for one in records] == [made, made]
    assert (records[1].fallback, records[1].evidence) == ("repeat", None)
