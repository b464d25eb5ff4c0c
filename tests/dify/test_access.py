"""Keys, certificates and failures as Dify's user meets them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from appliance.telemetry.request_filter import parse
from appliance.telemetry.request_record import RequestRecord
from tests.dify.conftest import CLIENT, command, daemon_environment, made_bundle
from tests.dify.judge_process import LLM, Judge, needs_sdk, running_judge
from tests.e2e.appliance_process import Appliance

pytestmark = [needs_sdk, pytest.mark.slow]

HELLO = [{"role": "user", "content": "Hello"}]
PIXEL = "data:image/png;base64,iVBORw0KGgo="


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("model", "more", "status", "code"),
    [
        ("nobody", {}, 404, "model_not_found"),
        ("broken", {}, 503, "model_unavailable"),
        ("embed", {}, 400, "invalid_request"),
        ("demo", {"messages": [{"role": "user", "content": "word " * 3000}]}, 400, "context_length_exceeded"),
        ("demo", {"messages": [{"role": "user", "content": ["See", PIXEL]}]}, 400, "invalid_request"),
        (
            "demo",
            {"parameters": {"response_format": "json_schema", "json_schema": '{"not": {}}'}},
            400,
            "invalid_request",
        ),
    ],
)
def test_what_a_chat_s_user_reads_of_an_error(
    judge: Judge, model: str, more: dict[str, Any], status: int, code: str, stream: bool
) -> None:
    fields: dict[str, Any] = {"messages": HELLO, "stream": stream} | more
    shown = judge.refused("chat", model, **fields)
    before, _, body = shown.partition(f"API request failed with status code {status}: ")
    error = json.loads(body)["error"]
    assert before.endswith("Error: ")
    assert error["code"] == code
    assert {"message", "type", "param", "code"} <= set(error)
    assert 10 < len(error["message"]) < 300


def test_what_the_others_show_has_only_the_status(judge: Judge) -> None:
    for do, more in (("embed", {"texts": ["a"]}), ("rerank", {"query": "a", "docs": ["b"]})):
        assert "404 Client Error" in judge.refused(do, "nobody", {}, **more)
        assert "400 Client Error" in judge.refused(do, "demo", {}, **more)


@pytest.mark.parametrize("key", ["", "apl_sk_mistyped", "1"])
def test_a_wrong_key_is_not_repeated(judge: Judge, key: str) -> None:
    """Empty: the plugin sends no header with a chat, and an empty one with embeddings."""
    form = LLM | {"api_key": key}
    shown = judge.refused("validate", "demo", form, kind="llm")
    assert "status code 401" in shown
    assert not key or key not in shown.replace("401", "")
    assert "401" in judge.refused("embed", "embed", {"api_key": key}, texts=["a"])


def test_both_generations_of_a_key(judge: Judge, appliance: Appliance, tmp_path: Path) -> None:
    command(appliance, "keys", "add", CLIENT, "--out", tmp_path / "old.key")
    old = (tmp_path / "old.key").read_text().strip()
    command(appliance, "keys", "rotate", kid_of(old), "--grace-hours", "168", "--out", tmp_path / "new.key")
    new = (tmp_path / "new.key").read_text().strip()
    for key in (old, new):
        assert judge.told("validate", "demo", LLM | {"api_key": key}, kind="llm")["valid"]
    known = {key["kid"]: key for key in json.loads(command(appliance, "keys", "list", CLIENT, "--json"))}
    assert known[kid_of(old)]["last_used"] and known[kid_of(new)]["last_used"]


def kid_of(key: str) -> str:
    return key.removeprefix("apl_sk_")[:12]


def test_sixteen_megabytes_come_through(judge: Judge) -> None:
    """The model's context is what refuses them, not a limit on the way."""
    shown = judge.refused("chat", "demo", messages=[{"role": "user", "content": "word " * (17 * 2**20 // 5)}])
    assert "status code 400" in shown
    assert "context_length_exceeded" in shown


def test_an_abandoned_stream_gives_its_slot_back(judge: Judge, appliance: Appliance) -> None:
    known = len(gone(appliance))
    judge.chat("recite", "[000]", parameters={"max_tokens": 4000}, take=3)
    deadline = time.monotonic() + 60
    while len(gone(appliance)) == known:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert gone(appliance)[-1].completion_tokens < 4000


def gone(appliance: Appliance) -> list[RequestRecord]:
    """The records of requests whose client has left, oldest first."""
    pages = appliance.requests().all(parse("outcome:client_gone"))
    return sorted((record for page in pages for record in page), key=lambda record: record.time)


@pytest.mark.parametrize("missing", ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_each_variable_is_needed(appliance: Appliance, tmp_path: Path, direct_port: int, missing: str) -> None:
    """The plugin's two HTTP clients look at one of them each."""
    environment = daemon_environment(made_bundle(appliance, tmp_path / "llm"))
    del environment[missing]
    by_client = LLM | {"token_param_name": "max_completion_tokens"}
    refused, valid = (LLM, by_client) if missing == "REQUESTS_CA_BUNDLE" else (by_client, LLM)
    url = f"https://localhost:{direct_port}/v1"
    with running_judge(tmp_path, url, appliance.key(CLIENT), environment) as judge:
        assert judge.told("validate", "demo", valid, kind="llm")["valid"]
        shown = judge.refused("validate", "demo", refused, kind="llm")
        assert "CERTIFICATE_VERIFY_FAILED" in shown or shown == "Connection error."
    appliance.wait_for("127.0.0.1 refused this server's certificate or TLS")


def test_a_listener_that_asks_for_a_certificate(appliance: Appliance, tmp_path: Path) -> None:
    environment = daemon_environment(made_bundle(appliance, tmp_path / "llm"))
    with running_judge(tmp_path, f"{appliance.url}/v1", appliance.key(CLIENT), environment) as judge:
        assert "SSL" in judge.refused("validate", "demo", kind="llm")
    appliance.wait_for("127.0.0.1 presented no certificate")
