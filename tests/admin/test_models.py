"""Imported models through the admin API: real files and jobs; the trial is a test's."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import random
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from appliance.access_config import Audit
from appliance.admin_client import AdminClient
from appliance.config import Config, Models
from appliance.errors import LoadCrash, LoadError
from appliance.model_store.hashes import sums_text
from appliance.model_store.quantizing import Quantizer
from appliance.state_dir import StateDir
from appliance.types import ModelInfo, QuantizeOrder
from tests.admin.desk import Desk, believed, refused
from tests.models.raw_gguf import HOSTILE
from tests.unit.model_store.conftest import quantisable_model, small_model
from tests.waiting import WAIT_SECONDS_MAX

KEY = Ed25519PrivateKey.generate()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "stick" / "small.gguf"
    path.parent.mkdir()
    path.write_bytes(small_model())
    return path


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


async def ended(admin: AdminClient, job: dict[str, Any]) -> dict[str, Any]:
    """The job once nothing of it is left to do."""
    while job["state"] not in ("done", "failed"):
        await asyncio.sleep(0.005)
        job = await admin.get(f"/jobs/{job['id']}")
    return job


async def imported(admin: AdminClient, path: Path, **fields: object) -> dict[str, Any]:
    return await ended(admin, await admin.post("/store", {"path": str(path), **fields}))


def in_store(state: StateDir) -> list[str]:
    return sorted(str(path.relative_to(state.models)) for path in state.models.rglob("*"))


async def test_a_models_life(desk: Desk, admin: AdminClient, model: Path) -> None:
    job = await imported(admin, model, sha256=sha256_of(model))
    assert (job["state"], job["bytes_done"]) == ("done", job["bytes_total"])
    found = await admin.get("/store")
    assert [(one["name"], one["license"], one["signer"]) for one in found["models"]] == [("small", "apache-2.0", None)]
    assert found["models"][0]["path"] == str(desk.state.models / "small" / "small.gguf")
    shown = await admin.get("/store/small")
    assert shown["header"]["architecture"] == "llama"
    assert "chat_template" not in shown["header"], "it may have 64 kB"
    verified = await ended(admin, await admin.post("/store/small/verify"))
    assert verified["result"]["fault"] is None
    assert (await refused(admin.post("/store", {"path": str(model)}))).code == "conflict"
    desk.premises.in_use = ["qwen"]
    assert "is loaded as qwen" in str(await refused(admin.post("/store/small/remove")))
    desk.premises.in_use = []
    await admin.post("/store/small/remove", {"reason": "INC-7"})
    assert in_store(desk.state) == []
    assert (await refused(admin.post("/store/small/remove"))).code == "not_found"
    assert (await refused(admin.get("/store/small"))).code == "not_found"
    assert await desk.outcomes("model.import") == ["allow", "ok", "deny"]
    assert await desk.outcomes("model.verify") == ["allow", "ok"]
    assert await desk.outcomes("model.remove") == ["allow", "ok"]
    begun = next(record for record in await desk.records() if record.action == "model.remove")
    assert begun.details["why"] == "INC-7"
    record = next(
        record for record in await desk.records() if (record.action, record.outcome) == ("model.import", "ok")
    )
    assert record.actor.uid == os.getuid()
    assert record.details["sha256"] == sha256_of(model)


async def test_what_is_refused_is_refused_at_once_and_on_record(desk: Desk, admin: AdminClient, model: Path) -> None:
    link = model.with_name("link.gguf")
    link.symlink_to(model)
    bodies: list[tuple[dict[str, object], str]] = [
        ({"path": "small.gguf"}, "say the whole path"),
        ({"path": f"{model.parent}/../stick/small.gguf"}, "say the whole path"),
        ({"path": str(link)}, "is a symbolic link"),
        ({"path": str(model), "name": "../x"}, "cannot be a model's name"),
        ({"path": str(model), "name": "/x"}, "cannot be a model's name"),
        ({"path": str(model), "sha256": "0"}, "has 64 hex digits"),
        ({"path": str(model), "signature": "!"}, "expected base64"),
        ({"path": str(model), "signature": ""}, "names no key"),
    ]
    for body, reason in bodies:
        error = await refused(admin.post("/store", body))
        assert error.code == "invalid", body
        assert reason in str(error), body
    assert in_store(desk.state) == []
    assert set(await desk.outcomes("model.import")) == {"deny"}


async def test_another_hash(desk: Desk, admin: AdminClient, model: Path) -> None:
    job = await imported(admin, model, sha256="ab" * 32)
    assert job["state"] == "failed"
    assert "not abab" in job["error"]
    assert in_store(desk.state) == []
    assert await desk.outcomes("model.import") == ["allow", "failed"]


async def test_a_trial_that_says_no_and_one_that_crashes(desk: Desk, admin: AdminClient, model: Path) -> None:
    async def refuses(path: Path, size_bytes: int) -> ModelInfo:
        assert await asyncio.to_thread(path.read_bytes) == await asyncio.to_thread(model.read_bytes)
        raise LoadError("small.gguf: unknown model architecture")

    async def crashes(path: Path, size_bytes: int) -> ModelInfo:
        raise LoadCrash("its trial ended the engine worker (signal 6)")

    desk.trial = refuses
    assert "cannot be used: small.gguf: unknown" in (await imported(admin, model))["error"]
    assert in_store(desk.state) == []
    desk.trial = crashes
    assert "(signal 6); it is in quarantine" in (await imported(admin, model))["error"]
    found = await admin.get("/store")
    assert (found["models"], found["quarantined"][0]["name"]) == ([], "small")
    assert await desk.outcomes("model.import") == ["allow", "failed"] * 2
    desk.trial = believed
    assert (await imported(admin, model))["state"] == "done", "it may be tried again"
    await admin.post("/store/small/remove", {"quarantined": True})
    found = await admin.get("/store")
    assert (len(found["models"]), found["quarantined"]) == (1, [])
    assert (await refused(admin.post("/store/small/remove", {"quarantined": True}))).code == "not_found"


async def test_cancelling_leaves_nothing(desk: Desk, admin: AdminClient, model: Path) -> None:
    trying = asyncio.Event()

    async def never(path: Path, size_bytes: int) -> ModelInfo:
        trying.set()
        await asyncio.Event().wait()
        raise AssertionError

    desk.trial = never
    job = await admin.post("/store", {"path": str(model)})
    await trying.wait()
    assert "import of model small: trying" in desk.models.notes()[0]
    assert "is being imported" in str(await refused(admin.post("/store", {"path": str(model)})))
    await admin.post(f"/jobs/{job['id']}/cancel")
    assert "it was cancelled" in (await ended(admin, job))["error"]
    assert in_store(desk.state) == []
    assert desk.models.notes() == []
    assert (await refused(admin.get("/jobs/x"))).code == "not_found"


async def test_signatures(state: StateDir, model: Path, tmp_path: Path) -> None:
    pem = tmp_path / "release.pem"
    pem.write_bytes(KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    config = Config(models=Models(signers=(str(pem),), require_signature=True))
    signature = KEY.sign(sums_text({model.name: sha256_of(model)}))
    async with Desk.open(state, config) as desk, desk.client() as admin:
        assert "is not signed" in str(await refused(admin.post("/store", {"path": str(model)})))
        for wrong in (bytes(64), KEY.sign(b"something else")):
            job = await imported(admin, model, signature=base64.b64encode(wrong).decode())
            assert "not by a key of models.signers (release)" in job["error"]
        job = await imported(admin, model, signature=base64.b64encode(signature).decode())
        assert job["result"]["signer"]["name"] == "release"
        pem.chmod(0o666)
        error = await refused(admin.post("/store", {"path": str(model), "name": "other"}))
        assert (error.code, "can be changed by other users" in str(error)) == ("config_rejected", True)


async def quantized(admin: AdminClient, name: str = "small", to: str = "q8_0", **fields: object) -> dict[str, Any]:
    return await ended(admin, await admin.post(f"/store/{name}/quantize", {"to": to, **fields}))


@pytest.fixture
async def large(admin: AdminClient, model: Path) -> Path:
    """An imported model that can become smaller."""
    await asyncio.to_thread(model.write_bytes, quantisable_model())
    assert (await imported(admin, model))["state"] == "done"
    return model


async def test_a_smaller_model_is_made_beside_its_origin(desk: Desk, admin: AdminClient, large: Path) -> None:
    before = in_store(desk.state)
    planned = await admin.post("/store/small/quantize", {"to": "Q8_0"}, plan=True)
    assert (planned["name"], planned["from"], planned["quantisation"], planned["tensor_types"], planned["fit"]) == (
        ("small-q8_0", "small", "Q8_0", {"Q8_0": 272 * 8}, None)
    )
    assert 272 * 8 < planned["bytes"] < planned["bytes_before"]
    assert in_store(desk.state) == before
    job = await quantized(admin)
    assert (job["kind"], job["name"], job["state"]) == ("quantize", "small-q8_0", "done")
    made = await admin.get("/store/small-q8_0")
    assert (made["quantisation"], made["signer"], made["imported_from"]) == (
        ("Q8_0", None, str(desk.state.models / "small" / "small.gguf"))
    )
    assert made["quantized_from"] == {"name": "small", "sha256": sha256_of(large), "tensor_types": {"Q8_0": 272 * 8}}
    assert made["files"][0]["sha256"] == sha256_of(desk.state.models / "small-q8_0" / "small-q8_0.gguf")
    shown = await admin.get("/store/small")
    assert (shown["quantized_from"], shown["smaller"]) == (
        (None, {"q8_0": 272 * 8, "q6_k": 210 * 8, "q5_k_m": 176 * 8, "q4_k_m": 144 * 8})
    )
    assert await desk.outcomes("model.quantize") == ["allow", "ok"]
    asked = next(record for record in await desk.records() if record.action == "model.quantize")
    assert (asked.resource, asked.details["from"], asked.details["from_sha256"], asked.details["to"]) == (
        ("small-q8_0", "small", sha256_of(large), "Q8_0")
    )
    assert "is there already" in str(await refused(admin.post("/store/small/quantize", {"to": "q8_0"})))
    assert "which is no less" in str(await refused(admin.post("/store/small-q8_0/quantize", {"to": "q8_0"})))
    assert (await refused(admin.post("/store/none/quantize", {"to": "q8_0"}))).code == "not_found"
    damage(desk.state.models / "small" / "small.gguf")
    assert "was changed since" in str(await refused(admin.post("/store/small/quantize", {"to": "q6_k"})))
    assert await desk.outcomes("model.quantize") == ["allow", "ok", "deny", "deny", "deny", "deny"]


async def test_whatever_ends_quantising_leaves_nothing(desk: Desk, admin: AdminClient, large: Path) -> None:
    before = in_store(desk.state)

    def failing(error: Exception) -> Quantizer:
        async def fails(order: QuantizeOrder, progress: Callable[[int], None]) -> None:
            await asyncio.to_thread(Path(order.target).write_bytes, b"GGUF")
            raise error

        return fails

    for error, reason in (
        (LoadError("no space is left"), "could not be quantised, and nothing of it is left: no space is left"),
        (LoadCrash("quantising ended the engine worker (signal 11)"), "(signal 11)"),
        (OSError(12, "Cannot allocate memory"), "Cannot allocate memory"),
    ):
        desk.quantizer = failing(error)
        assert reason in (await quantized(admin))["error"]
        assert in_store(desk.state) == before

    async def incomplete(order: QuantizeOrder, progress: Callable[[int], None]) -> None:
        await asyncio.to_thread(Path(order.target).write_bytes, b"GGUF")

    desk.quantizer = incomplete
    assert "small-q8_0.gguf is refused: it ends before its header does" in (await quantized(admin))["error"]
    assert in_store(desk.state) == before
    assert await desk.outcomes("model.quantize") == ["allow", "failed"] * 4


async def test_a_smaller_model_that_crashes_is_quarantined(desk: Desk, admin: AdminClient, large: Path) -> None:
    async def crashes(path: Path, size_bytes: int) -> ModelInfo:
        raise LoadCrash("its trial ended the engine worker (signal 6)")

    desk.trial = crashes
    assert "it is in quarantine" in (await quantized(admin))["error"]
    found = await admin.get("/store")
    assert [model["name"] for model in found["models"]] == ["small"]
    assert [model["name"] for model in found["quarantined"]] == ["small-q8_0"]


async def test_cancelling_ends_the_worker_and_its_origin_is_held_meanwhile(
    desk: Desk, admin: AdminClient, large: Path
) -> None:
    before, writing, ended_by = in_store(desk.state), asyncio.Event(), asyncio.Event()

    async def never(order: QuantizeOrder, progress: Callable[[int], None]) -> None:
        progress(700)
        writing.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended_by.set()

    desk.quantizer = never
    job = await admin.post("/store/small/quantize", {"to": "q8_0"})
    await writing.wait()
    now = await admin.get(f"/jobs/{job['id']}")
    assert (now["state"], now["bytes_done"]) == ("quantizing", 700)
    assert "quantize of model small-q8_0: quantizing" in desk.models.notes()[0]
    assert "is being imported, verified or quantised" in str(await refused(admin.post("/store/small/remove")))
    await admin.post(f"/jobs/{job['id']}/cancel")
    assert "it was cancelled" in (await ended(admin, job))["error"]
    assert ended_by.is_set()
    assert in_store(desk.state) == before
    assert await desk.outcomes("model.quantize") == ["allow", "failed"]


async def test_who_must_sign_quantises_nothing_here(state: StateDir, model: Path) -> None:
    await asyncio.to_thread(model.write_bytes, quantisable_model())
    async with Desk.open(state) as desk, desk.client() as admin:
        await imported(admin, model)
    async with Desk.open(state, Config(models=Models(require_signature=True))) as desk, desk.client() as admin:
        error = await refused(admin.post("/store/small/quantize", {"to": "q8_0"}))
        assert "nobody would have signed what is quantised here" in str(error)


def damage(path: Path) -> None:
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x01")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


async def test_a_damaged_model_is_found_said_and_mended(desk: Desk, admin: AdminClient, model: Path) -> None:
    await imported(admin, model)
    path = desk.state.models / "small" / "small.gguf"
    damage(path)
    job = await ended(admin, await admin.post("/store/small/verify"))
    assert "small is damaged and may not be loaded: small.gguf has the SHA-256" in job["error"]
    assert "the imported model small may not be loaded" in desk.models.degraded()[0]
    assert await desk.outcomes("model.verify") == ["allow", "failed"]
    shutil.copy(model, path)
    assert (await ended(admin, await admin.post("/store/small/verify")))["state"] == "done"
    assert desk.models.degraded() == []


async def test_the_scrub_looks_when_its_time_has_come(desk: Desk, admin: AdminClient, model: Path) -> None:
    await imported(admin, model)
    damage(desk.state.models / "small" / "small.gguf")

    async def scrubbed(count: int = 0) -> list[str]:
        """What it has come to, once it has looked at `count` models; 0: for a while."""
        task = asyncio.get_running_loop().create_task(desk.models.scrub())
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            await asyncio.sleep(0.1)
            while len(await desk.outcomes("model.scrub")) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.wait((task,))
        return await desk.outcomes("model.scrub")

    assert await scrubbed() == []
    assert desk.models.degraded() == []
    desk.clock.ahead = timedelta(days=7)
    assert await scrubbed(1) == ["failed"]
    assert "may not be loaded" in desk.models.degraded()[0]
    shutil.copy(model, desk.state.models / "small" / "small.gguf")
    assert await scrubbed(2) == ["failed", "ok"]
    assert desk.models.degraded() == []


async def test_a_disk_that_is_full(state: StateDir, model: Path) -> None:
    async with Desk.open(state, Config(audit=Audit(disk_min_bytes=2**62))) as desk, desk.client() as admin:
        error = await refused(admin.post("/store", {"path": str(model)}))
        assert (error.code, "must stay free" in str(error)) == ("conflict", True)
    assert in_store(state) == []


async def test_hostile_files_are_refused_with_a_reason(desk: Desk, admin: AdminClient, model: Path) -> None:
    await many_hostile(desk, admin, model, small_model(), 1)


@pytest.mark.slow
async def test_a_thousand_hostile_files(desk: Desk, admin: AdminClient, model: Path, recite_gguf: Path) -> None:
    good = await asyncio.to_thread(recite_gguf.read_bytes)
    assert await many_hostile(desk, admin, model, good, 31) >= 1000


async def many_hostile(desk: Desk, admin: AdminClient, model: Path, good: bytes, seeds: int) -> int:
    """Each kind so many times; how many files that were."""
    count = 0
    for seed in range(seeds):
        for kind, make in HOSTILE.items():
            await asyncio.to_thread(model.write_bytes, make(random.Random(f"{kind} {seed}"), good))
            error = await refused(admin.post("/store", {"path": str(model)}))
            assert error.code == "invalid", (kind, seed, error)
            assert str(error).startswith("small.gguf is refused: it"), (kind, seed, error)
            count += 1
    assert in_store(desk.state) == []
    assert (await admin.get("/status"))["degraded"] == []
    return count
