"""Clients, API keys and tokens, as an administrator changes them."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from msgspec.structs import replace

from appliance.access_config import PrincipalSettings
from appliance.admin_client import AdminClient, route
from appliance.config import Config
from appliance.security.api_keys import ApiKey
from appliance.state_dir import StateDir
from appliance.telemetry.key_hours import KeyUsage
from tests.admin.desk import Desk, refused
from tests.security.authorities import client_csr
from tests.unit.telemetry.making import record, write


async def test_a_client_gets_its_files_once(desk: Desk, admin: AdminClient) -> None:
    before = desk.office.document.generation
    made = await admin.post("/clients", {"name": "dify"})
    assert made["name"] == "dify"
    assert set(made["files"]) == {"client.crt", "client.key", "ca.crt", "api.key"}
    assert admin.generation == desk.office.document.generation == before + 1
    key = ApiKey.parse(made["files"]["api.key"].strip())
    assert key is not None
    assert desk.office.document.keys[key.kid].principal == "dify"
    (dify,) = [one for one in await admin.get("/clients") if one["name"] == "dify"]
    assert (dify["keys"], dify["revoked"]) == ([key.kid], False)
    assert made["files"]["client.key"] not in str(await admin.get("/clients"))
    error = await refused(admin.post("/clients", {"name": "dify"}))
    assert (error.code, "exists" in str(error)) == ("conflict", True)


async def test_a_bad_name_says_what_a_name_is(admin: AdminClient) -> None:
    for name in ("", "Dify", "a b", "../x", "-x", "x" * 64, "ü", "dify\n"):
        error = await refused(admin.post("/clients", {"name": name}))
        assert error.code == "invalid"
        assert "a-z" in str(error)


async def test_a_client_that_keeps_its_private_key(admin: AdminClient) -> None:
    csr = client_csr(ec.generate_private_key(ec.SECP256R1()), "dify", "appliance://any/client/dify").decode()
    made = await admin.post("/clients", {"name": "dify", "csr": csr})
    assert set(made["files"]) == {"client.crt", "ca.crt", "api.key"}
    renewed = await admin.post(route("clients", "dify", "renew"), {"csr": csr})
    assert set(renewed["files"]) == {"client.crt", "ca.crt"}
    for nonsense in (
        "",
        "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
        "x" * 20_000,
    ):
        assert (await refused(admin.post("/clients", {"name": "other", "csr": nonsense}))).code == "invalid"


async def test_renewing_leaves_the_certificate_there_is_valid(desk: Desk, admin: AdminClient) -> None:
    renewed = await admin.post(route("clients", "demo", "renew"))
    assert set(renewed["files"]) == {"client.crt", "client.key", "ca.crt"}
    serial = f"{x509.load_pem_x509_certificate(renewed['files']['client.crt'].encode()).serial_number:x}"
    issued = [one for one in (await admin.get("/certificates"))["issued"] if one["name"] == "demo"]
    assert [one["state"] for one in issued] == ["valid", "valid"]
    assert serial.lstrip("0") in {one["serial"].lstrip("0") for one in issued}
    assert (await refused(admin.post(route("clients", "nobody", "renew")))).code == "not_found"


async def test_revoking_a_client_and_taking_it_back(desk: Desk, admin: AdminClient) -> None:
    answer = await admin.post(route("clients", "demo", "revoke"), {"reason": "laptop stolen"})
    assert (answer["revoked"], answer["cut"]) == (True, 0)
    assert (await admin.get("/clients"))[0]["revoked"]
    (revocation,) = desk.office.document.revocations
    assert (revocation.kind, revocation.value, revocation.reason) == ("principal", "demo", "laptop stolen")
    before = desk.office.document.generation
    await admin.post(route("clients", "demo", "revoke"))
    assert desk.office.document.generation == before, "revoking what is revoked changes nothing"
    await admin.post(route("clients", "demo", "restore"))
    assert not (await admin.get("/clients"))[0]["revoked"]
    assert (await refused(admin.post(route("clients", "demo", "restore")))).code == "not_found"
    assert (await refused(admin.post(route("clients", "nobody", "revoke")))).code == "not_found"
    assert await desk.outcomes("client.revoke") == ["allow", "ok", "ok", "deny"]


async def test_a_keys_life(desk: Desk, admin: AdminClient) -> None:
    made = await admin.post("/keys", {"principal": "demo", "label": "staging", "life_days": 30})
    key = ApiKey.parse(made["key"])
    assert key is not None
    assert key.kid == made["kid"]
    until = datetime.fromisoformat(made["works_until"])
    assert timedelta(days=29) < until - desk.clock() <= timedelta(days=30)

    rotated = await admin.post(route("keys", made["kid"], "rotate"), {"grace_hours": 2})
    assert rotated["predecessor"] == made["kid"]
    assert datetime.fromisoformat(rotated["predecessor_works_until"]) - desk.clock() <= timedelta(hours=2)
    states = {key["kid"]: (key["state"], key["successor"], key["label"]) for key in await admin.get("/keys")}
    assert states[made["kid"]] == ("retiring", rotated["kid"], "staging")
    assert states[rotated["kid"]] == ("active", None, "staging")

    again = await refused(admin.post(route("keys", made["kid"], "rotate")))
    assert (again.code, rotated["kid"] in str(again)) == ("conflict", True)
    error = await refused(admin.post(route("keys", rotated["kid"], "rotate")))
    assert (error.code, "--force" in str(error)) == ("needs_force", True)
    third = await admin.post(route("keys", rotated["kid"], "rotate"), {"force": True})

    await admin.post(route("keys", third["kid"], "revoke"), {"reason": "found in a repository"})
    states = {key["kid"]: (key["state"], None, None) for key in await admin.get("/keys", principal="demo")}
    assert states[third["kid"]][0] == "revoked"
    assert states[made["kid"]][0] == "retired"
    assert await admin.get("/keys", principal="nobody") == []


async def test_what_a_key_may_do_and_was_used_for(state: StateDir) -> None:
    limited = PrincipalSettings(models=("qwen",), requests_per_minute=60, tokens_per_day=10**6)
    async with Desk.open(state, Config(principals={"demo": limited})) as desk, desk.client() as admin:
        (found,) = await admin.get("/keys")
        assert found["last_day"] == dict.fromkeys(KeyUsage.__struct_fields__, 0)
        assert (found["role"], found["models"]) == ("inference", ["qwen"])
        assert {name: value for name, value in found["limits"].items() if value is not None} == {
            "requests_per_minute": 60,
            "tokens_per_day": 10**6,
        }
        now = time.time()
        made = record(time=now, key_id=found["kid"])
        path = write(state.store, made, replace(made, outcome="refused", status=429), record(time=now, key_id="other"))
        day = (await admin.get("/keys"))[0]["last_day"]
        assert (day["requests"], day["refused"], day["prompt_tokens"]) == (2, 1, 20)
        path.write_bytes(b"no database")
        assert (await admin.get("/keys"))[0]["last_day"] is None, "the keys are listed all the same"


async def test_keys_that_are_not_there_and_numbers_out_of_range(admin: AdminClient) -> None:
    for work in (
        admin.post(route("keys", "../demo", "rotate")),
        admin.post(route("keys", "unknown00000", "rotate")),
        admin.post(route("keys", "unknown00000", "revoke")),
        admin.post("/keys", {"principal": "nobody"}),
    ):
        error = await refused(work)
        assert error.code == "not_found"
        assert "list" in str(error)
    for body in ({"life_days": 0}, {"life_days": 367}, {"life_days": 1.5}, {"label": "x" * 257}):
        assert (await refused(admin.post("/keys", {"principal": "demo", **body}))).code == "invalid"
    kid = (await admin.get("/keys"))[0]["kid"]
    for grace in (-1, 337, "1"):
        assert (await refused(admin.post(route("keys", kid, "rotate"), {"grace_hours": grace}))).code == "invalid"


async def test_a_token_is_revoked_by_its_id(desk: Desk, admin: AdminClient) -> None:
    answer = await admin.post(route("tokens", "a/b?c", "revoke"), {"reason": "lost"})
    assert answer["token"] == "a/b?c"
    assert "a/b?c" in desk.office.access.view.revocations.tokens
    error = await refused(admin.post(route("tokens", "x" * 257, "revoke")))
    assert error.code == "invalid", "no token has an id of that length"


async def test_a_lost_answer_does_not_make_a_second_key(desk: Desk, admin: AdminClient) -> None:
    first = await admin.post("/keys", {"principal": "demo"}, idempotency_key="once")
    assert await admin.post("/keys", {"principal": "demo"}, idempotency_key="once") == first
    assert len(desk.office.document.keys) == 2
    error = await refused(admin.post("/keys", {"principal": "demo", "label": "x"}, idempotency_key="once"))
    assert error.code == "conflict"


async def test_a_change_decided_on_an_older_state_is_not_made(desk: Desk, admin: AdminClient) -> None:
    await admin.get("/keys")
    seen = admin.generation
    await admin.post("/keys", {"principal": "demo"}, generation=seen)
    error = await refused(admin.post("/keys", {"principal": "demo"}, generation=seen))
    assert error.code == "generation_mismatch"
    assert "Look at them again" in str(error)
    assert len(desk.office.document.keys) == 2
