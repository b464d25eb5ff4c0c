"""The evidence of one answer through the admin API: who may see it, what it says, and that looking is on record."""

from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace

from appliance.admin.handlers.evidence import replay_of
from appliance.admin_client import AdminClient
from appliance.models.version import ModelVersion, fingerprint_of, version_of
from appliance.models.version_store import VersionStore
from appliance.state_dir import StateDir
from appliance.store.connection import open_writer
from appliance.telemetry.request_record import AnswerEvidence, RequestRecord
from appliance.telemetry.request_table import FILE, MIGRATIONS, insert
from appliance.types import ModelSpec, SamplingParams
from tests.admin.desk import Desk, refused
from tests.fakes.scripted_worker import INFO

VERSION = version_of(ModelSpec(id="m", path="/m"), INFO, "c0ffee")
RECORD = RequestRecord(
    id="r1",
    time=1.0,
    address="127.0.0.1",
    method="POST",
    path="/v1/completions",
    outcome="ok",
    status=200,
    total_seconds=1.0,
    principal="dify",
    model="m",
    system_fingerprint=fingerprint_of(VERSION),
    evidence=AnswerEvidence(seed=7, sampling={"top_k": 5}, max_tokens=9, withheld={"stop": 1}, file_sha256="ab"),
)


def write(state: StateDir, *records: RequestRecord) -> None:
    connection = open_writer(state.store / FILE, MIGRATIONS, check=True)
    for one in records:
        insert(connection, one)
    connection.close()


@pytest.mark.parametrize("given", ["r1", "chatcmpl-r1", "cmpl-r1"])
async def test_the_newest_answer_of_an_id(state: StateDir, admin: AdminClient, desk: Desk, given: str) -> None:
    await VersionStore(state.store / "versions.json").keep(fingerprint_of(VERSION), VERSION)
    write(state, replace(RECORD, status=500), RECORD, replace(RECORD, id="r2"))
    found = await admin.get(f"/evidence/{given}")
    assert msgspec.convert(found["record"], RequestRecord) == RECORD
    assert msgspec.convert(found["version"], ModelVersion) == VERSION
    replay = found["replay"]
    assert (replay["model"], replay["seed"], replay["top_k"], replay["max_tokens"]) == ("m", 7, 5, 9)
    assert replay["temperature"] == SamplingParams().temperature
    (noted,) = [one for one in await desk.records() if one.action == "evidence.read"]
    assert (noted.outcome, noted.resource, noted.request_id) == ("ok", "dify", "r1")


async def test_an_id_of_a_client_s_own_may_look_like_an_answer_s(state: StateDir, admin: AdminClient) -> None:
    write(state, replace(RECORD, id="chatcmpl-r1"))
    assert (await admin.get("/evidence/chatcmpl-r1"))["record"]["id"] == "chatcmpl-r1"


async def test_a_version_that_is_not_known(state: StateDir, admin: AdminClient) -> None:
    write(state, RECORD)
    assert (await admin.get("/evidence/r1"))["version"] is None
    (state.store / "versions.json").write_bytes(b"{")
    assert (await admin.get("/evidence/r1"))["version"] is None


async def test_what_is_not_there(state: StateDir, admin: AdminClient, desk: Desk) -> None:
    error = await refused(admin.get("/evidence/r9"))
    assert error.code == "not_found" and "'r9'" in str(error)
    write(state, RECORD)
    assert (await refused(admin.get("/evidence/r9"))).code == "not_found"
    assert (await refused(admin.get("/evidence/%22x"))).code == "invalid"
    assert [one.reason for one in await desk.records() if one.action == "evidence.read"] == ["not_found"] * 2


def test_a_replay_says_all_settings() -> None:
    replay = replay_of(RECORD)
    assert replay is not None
    left_out = {"seed", "logit_bias", "dry_sequence_breakers"}
    assert set(replay) == {*SamplingParams.__struct_fields__} - left_out | {"model", "seed", "max_tokens"}
    assert replay_of(replace(RECORD, evidence=None)) is None


def test_a_replay_elsewhere_says_what_the_client_said() -> None:
    asked = AnswerEvidence(sampling={"temperature": 1}, n=2, base_url="http://h/v1", served_as="theirs")
    assert replay_of(replace(RECORD, evidence=asked)) == {"model": "m", "temperature": 1, "n": 2}
