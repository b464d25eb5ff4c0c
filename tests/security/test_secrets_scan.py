"""After a busy run no secret is anywhere in plain: files, logs, processes, answers.

What is handed to clients is theirs (`clients/`), and with `key_encryption: file` the key that opens everything else
lies beside it, as docs/SECURITY.md says; every other file is searched.
"""

from __future__ import annotations

import asyncio
import base64
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import aiohttp
import msgspec
import psutil
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_der_private_key

from appliance.admin_client import AdminError
from appliance.audit.keys import VerificationKey
from appliance.audit.read import export
from appliance.security.api_keys import ApiKey
from appliance.security.credential_store import CredentialStore
from appliance.security.credentials import Credentials, StoredPair
from appliance.state_dir import StateDir
from tests.e2e.appliance_process import Appliance, run_command
from tests.security.daemons import (
    add_client,
    admin_of,
    caller,
    keyring_of,
    scripted_appliance,
    status,
    stream,
    token_for,
    trust_issuer,
    write_files,
)

PROMPT = "say:the_prompt_itself"


@pytest.mark.slow
async def test_no_secret_in_plain(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    with scripted_appliance(folder, trust_issuer(folder) + "principals: {demo: {}}\n") as appliance:
        told, handed_out = await busy_run(appliance)
        for process in [psutil.Process(appliance.process.pid), *appliance.workers()]:
            told[f"environment of {process.pid}"] = repr(process.environ()).encode()
            told[f"command of {process.pid}"] = repr(process.cmdline()).encode()
        secrets = needles(appliance, handed_out)
        assert found_in(told, secrets) == []
        assert found_in(files_of(appliance), secrets) == []
    # And at rest, once everything is written and closed.
    secrets = needles(appliance, handed_out)
    assert len(secrets) > 50
    assert found_in(files_of(appliance), secrets) == []
    # The search itself finds what is there.
    shown = {"a bundle": (appliance.bundle() / "api.key").read_bytes()}
    assert found_in(shown, secrets)


async def busy_run(appliance: Appliance) -> tuple[dict[str, bytes], list[str]]:
    """Uses everything, rightly and wrongly. Returns what was answered, and the API keys and tokens that exist."""
    told: dict[str, bytes] = {}
    await add_client(appliance, "second")
    key, token = appliance.key(), token_for("demo", "busy")
    other = appliance.key("second")
    async with admin_of(appliance) as admin, caller(appliance) as session:
        assert await status(session, PROMPT) == 200
        async with stream(session):
            pass
        (listed,) = await admin.get("/keys", principal="second")
        rotated = (await admin.post(f"/keys/{listed['kid']}/rotate", {}))["key"]
        further = (await admin.post("/keys", {"principal": "demo"}))["key"]
        for purpose in ("credentials", "audit"):
            await admin.post(f"/data-keys/{purpose}/rotate", {})
        for path in ("/server/renew", "/seal-key/rotate", "/peppers/rotate", "/kek/rekey"):
            await admin.post(path, {})
        for step in ("start", "issue"):
            await admin.post("/authorities/client/rotation", {"step": step})
        write_files(appliance.bundle(), await admin.post("/clients/demo/renew", {}))
        for path in ("/whoami", "/status", "/keys", "/clients", "/certificates", "/secrets", "/allowlist", "/crl"):
            told[f"GET {path}"] = repr(await admin.get(path)).encode()
        for name in ("status", "doctor", "logs", "keys list", "clients list", "certs list", "secrets list"):
            done = await asyncio.to_thread(run_command, *name.split(), "--state-dir", appliance.state)
            told[name] = done.stdout.encode() + done.stderr.encode()
        told |= await asyncio.to_thread(diagnose_bundle, appliance)
        for path, body in (("/keys", {"principal": key}), (f"/keys/{key}/revoke", {}), ("/none", {"key": key})):
            try:
                await admin.post(path, body)
            except AdminError:
                continue
            raise AssertionError(f"{path} was done")
        await wrong_places(session, told, key)
    async with caller(appliance, authorization=token) as session:
        assert await status(session) == 200
    for authorization in (key[:-1], f"Basic {key}", f"Bearer {key[:-1]}", f"Bearer {other}", f"Bearer {token[7:-3]}"):
        async with caller(appliance, authorization=authorization) as session, session.get("/v1/models") as answer:
            assert answer.status == 401
            told[f"refusal {len(told)}"] = await answer.read()
    return told, [key, other, rotated, further, token[7:]]


def diagnose_bundle(appliance: Appliance) -> dict[str, bytes]:
    """Every file of an archive for whoever helps, and how it looks from outside."""
    out = appliance.folder / "diagnose.tar.gz"
    done = run_command("diagnose", "bundle", "--out", out, "--state-dir", appliance.state)
    assert done.returncode == 0, done.stderr
    told = {"bundle": out.read_bytes()}
    with tarfile.open(out) as archive:
        for member in archive.getmembers():
            if (file := archive.extractfile(member)) is not None:
                told[f"bundle {member.name}"] = file.read()
    assert any(name.endswith("log.json") for name in told) and len(told) > 10
    return told


async def wrong_places(session: aiohttp.ClientSession, told: dict[str, bytes], key: str) -> None:
    """A client that sends its key where it does not belong. What it gets back may show it what it sent."""
    body = {"model": key, "prompt": key}
    for path, headers in (
        (f"/v1/models/{key}", {}),
        (f"/v1/{key}", {"X-Request-Id": key, "User-Agent": key, "Cookie": key}),
        (f"/v1/models?api_key={key}", {"X-Api-Key": key}),
    ):
        async with session.get(path, headers=headers) as answer:
            await answer.read()
    async with session.post("/v1/completions", json=body, headers={"X-Request-Id": f"a:{key}"}) as answer:
        assert answer.status == 404


def needles(appliance: Appliance, handed_out: list[str]) -> Mapping[str, bytes]:
    """Everything secret, by what it is."""
    ring = keyring_of(appliance.state)
    document = CredentialStore.open(appliance.state / "secrets" / "credentials", ring.cipher("credentials")).current
    found: dict[str, bytes] = {"the prompt": b"the_prompt_itself"}
    for number, text in enumerate(handed_out):
        parsed = ApiKey.parse(text)
        found[f"API key or token {number}"] = (parsed.secret if parsed else text.rpartition(".")[2]).encode()
    for key in msgspec.json.decode(ring.export_plain())["keys"]:
        found |= spellings(f"data key {key['purpose']} {key['generation']}", base64.b64decode(key["key"]))
    for name, secret in secrets_of(document):
        found |= spellings(name, secret)
    for client in ("demo", "second"):
        pem = (appliance.bundle(client) / "client.key").read_text().splitlines()
        found[f"private key of {client}"] = pem[2].encode()
    return found


def secrets_of(document: Credentials) -> Iterator[tuple[str, bytes]]:
    """Of one document: peppers, seal keys, and the scalar of every private key."""
    for pepper in document.peppers:
        yield f"pepper {pepper.id}", pepper.secret
    for number, seal_key in enumerate(document.seal_keys):
        yield f"seal key {number}", seal_key
    pairs: list[tuple[str, StoredPair | None]] = [
        ("active", document.server.active),
        ("previous", document.server.previous),
    ]
    for name, authority in document.authorities.items():
        pairs += [(f"{name} CA", authority.current), (f"{name} CA's successor", authority.successor)]
    for what, pair in pairs:
        if pair is not None and pair.key is not None:
            private = load_der_private_key(pair.key, None)
            assert isinstance(private, EllipticCurvePrivateKey)
            yield f"private key {what}", private.private_numbers().private_value.to_bytes(32)


def spellings(name: str, secret: bytes) -> dict[str, bytes]:
    """As bytes and as text. Of base64 a part that does not depend on what comes before."""
    return {
        f"{name}, bytes": secret,
        f"{name}, hexadecimal": secret.hex().encode(),
        **{f"{name}, base64 {skip}": base64.b64encode(secret[skip:])[:36] for skip in range(3)},
    }


def files_of(appliance: Appliance) -> dict[str, bytes]:
    """Every file of the appliance but those that may hold secrets, and the audit log as an auditor reads it."""
    state = StateDir(appliance.state)
    found = {
        str(path.relative_to(appliance.folder)): path.read_bytes()
        for path in appliance.folder.rglob("*")
        if path.is_file() and state.clients not in path.parents and not path.name.startswith("kek.")
    }
    found["audit, decrypted"] = b"".join(export(state.audit, keyring_of(appliance.state).cipher("audit")))
    assert VerificationKey.decode(found.pop("state/audit/verification.key"))
    return found


def found_in(texts: Mapping[str, bytes], secrets: Mapping[str, bytes]) -> list[str]:
    return [f"{name} in {where}" for where, text in texts.items() for name, secret in secrets.items() if secret in text]
