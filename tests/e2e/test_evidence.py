"""Which version of a model made an answer, and the same answer again from its evidence, in the real daemon."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.e2e.appliance_process import Appliance, run_command, running_appliance

CONFIG = "audit: {disk_warn_bytes: 0}\n"
PROMPT = "the quick brown fox [017]"


@pytest.mark.slow
async def test_an_answer_is_replayed_from_its_evidence(tmp_path: Path, random_gguf: Path) -> None:
    entry = f"{{id: random, path: {random_gguf}, threads: 1, sampling: {{top_k: 0, temperature: 1}}, preload: true}}"
    models = tmp_path / "models.yaml"
    models.write_text(f"models: [{entry}]\n")
    with running_appliance(tmp_path / "appliance", "--models", models, config=CONFIG) as appliance:
        answer, found = await _hashed(appliance, n=2, max_tokens=16, stop=["never"], min_p=0.0)
        others = [await _complete(appliance, n=2, max_tokens=16, min_p=0.0) for _ in range(2)]
        assert len({_texts(one) for one in (answer, *others)}) == 3, "nothing was left to chance"

        record = found["record"]
        assert record["system_fingerprint"] == answer["system_fingerprint"]
        assert record["principal"] == "demo"
        asked = record["evidence"]
        assert asked["file_sha256"] == _sha256(random_gguf)
        assert asked["withheld"] == {"stop": 1}
        assert "llama-cpp-python" in found["version"]["engine_build"]
        assert found["version"]["settings"]["n_ctx_total"] == 8192

        (instance,) = msgspec.json.decode(_run(appliance, "models", "ps", "--json"))["instances"]
        assert instance["system_fingerprint"] == answer["system_fingerprint"]

        # What models.yaml says by now does not count.
        models.write_text(f"models: [{entry.replace('temperature: 1', 'temperature: 0.5')}]\n")
        _run(appliance, "models", "apply")
        again = await _complete(appliance, **found["replay"])
        assert _texts(again) == _texts(answer)
        assert again["system_fingerprint"] == answer["system_fingerprint"]

        said = _run(appliance, "evidence", record["id"])
        assert answer["system_fingerprint"] in said and str(asked["seed"]) in said
        log = msgspec.json.decode(_run(appliance, "audit", "tail", "--action", "evidence.read", "--json"))
        assert {one["request_id"] for one in log} >= {record["id"]}
    # Another process, the same file and settings.
    with running_appliance(tmp_path / "appliance", "--models", models, config=CONFIG) as appliance:
        again, evidence = await _hashed(appliance, **found["replay"])
        assert (_texts(again), again["system_fingerprint"]) == (_texts(answer), answer["system_fingerprint"])
        assert evidence["record"]["evidence"]["file_sha256"] == asked["file_sha256"]
    # Without a daemon too.
    assert _evidence(appliance, answer["id"]) == found


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


async def _hashed(appliance: Appliance, **fields: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """An answer from when the file's hash is known, which of a small one is within moments, and its evidence."""
    deadline = time.monotonic() + 60
    while True:
        answer = await _complete(appliance, **fields)
        found = _evidence(appliance, answer["id"])
        if "file_sha256" in found["record"]["evidence"]:
            return answer, found
        assert time.monotonic() < deadline


async def _complete(appliance: Appliance, **fields: Any) -> dict[str, Any]:
    body = {"model": "random", "prompt": PROMPT, **fields}
    async with appliance.session() as session, session.post("/v1/completions", json=body) as answer:
        assert answer.status == 200, await answer.text()
        found: dict[str, Any] = await answer.json()
        return found


def _texts(answer: dict[str, Any]) -> tuple[str, ...]:
    return tuple(choice["text"] for choice in answer["choices"])


def _evidence(appliance: Appliance, request_id: str) -> dict[str, Any]:
    """The record is written once the answer has gone out."""
    deadline = time.monotonic() + 60
    while True:
        done = run_command("evidence", request_id, "--json", *_options(appliance))
        if done.returncode == 0:
            found: dict[str, Any] = msgspec.json.decode(done.stdout)
            return found
        assert "has no request" in done.stderr, done.stderr
        assert time.monotonic() < deadline


def _run(appliance: Appliance, *arguments: str) -> str:
    done = run_command(*arguments, *_options(appliance))
    assert done.returncode == 0, done.stderr
    return done.stdout


def _options(appliance: Appliance) -> tuple[str, ...]:
    return ("--state-dir", str(appliance.state), "--config", str(appliance.state.parent / "appliance.yaml"))
