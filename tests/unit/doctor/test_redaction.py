"""What is cut out of texts that leave the house, and what stays."""

from __future__ import annotations

import base64
import json
import random
import time

import pytest

from appliance.doctor.redaction import redacted, redacted_data, without_comments

SECRET = "Hunter2Hunter2Hunter2"


@pytest.mark.parametrize(
    "text",
    [
        f"password: {SECRET}",
        f'"smtp_password": "{SECRET}"',
        f"PGPASSWORD={SECRET} psql",
        f"admin pin: '{SECRET}'",
        f"api-key={SECRET}, x=1",
        f"https://user:{SECRET}@proxy.example/v1",
        f"Authorization: Bearer {SECRET}",
        f"authorization: basic {SECRET}",
        f"hf_{SECRET}",
        f"sk-{SECRET}",
        f"apl_sk_abcdefghijkl_{SECRET}",
        f"-----BEGIN EC PRIVATE KEY-----\n{SECRET}\n-----END EC PRIVATE KEY-----",
        f"-----BEGIN PRIVATE KEY-----\n{SECRET}",
        f"the secret is {SECRET}",
    ],
)
def test_secrets_go(text: str) -> None:
    assert SECRET not in redacted(text)
    assert "redacted" in redacted(text)
    assert SECRET not in json.dumps(redacted_data({"lines": [{"line": text}]}))


@pytest.mark.parametrize("size", range(32, 65))
def test_long_random_values_go(size: int) -> None:
    value = random.Random(size).randbytes(size)
    for text in (base64.b64encode(value).decode(), base64.urlsafe_b64encode(value).decode().rstrip("=")):
        assert redacted(f"x {text} y") == "x [redacted] y"


@pytest.mark.parametrize(
    "text",
    [
        "2025-11-20T00:53:20.500Z WARNING a.b: model qwen3-32b-q4_k_m failed",
        '"prompt_tokens": 120, "completion_tokens": 7, "tokens_per_minute": 1000',
        "key_file: /etc/appliance/upstream.key",
        "pkcs11_pin_file: /run/credentials/pin",
        f'"sha256": "{"0f" * 32}"',
        "listeners.api.host 192.0.2.7 port 8443",
        "/var/lib/appliance/models/Qwen3-8B/Qwen3-8B-Instruct-2507-Q4_K_M-00001-of-00002.gguf",
        "appliance.models.instance.ModelInstance.supervise_the_worker_process_until_it_ends",
    ],
)
def test_what_helps_stays(text: str) -> None:
    assert redacted(text) == text


def test_what_stands_under_the_name_of_a_secret_goes() -> None:
    given = {"smtp_password": "a b", "Token": "x", "pin_file": "/p", "tokens": "5", "pin": None, "password": {"a": "b"}}
    assert redacted_data(given) == {
        "smtp_password": "[redacted]",
        "Token": "[redacted]",
        "pin_file": "/p",
        "tokens": "5",
        "pin": None,
        "password": {"a": "b"},
    }


def test_comments_go() -> None:
    yaml = f"# the old one was {SECRET}\nlisteners: {{}} # {SECRET}\nname: a#b\n"
    assert without_comments(yaml) == "\nlisteners: {}\nname: a#b"


def test_hostile_text_takes_no_time() -> None:
    began = time.perf_counter()
    for piece in ("a" * 100, "A0", "password", "://x", "-----BEGIN PRIVATE KEY-----", "key-", '"', "pin ="):
        redacted(piece * (100_000 // len(piece)))
    assert time.perf_counter() - began < 60


def test_redacting_twice_changes_nothing() -> None:
    once = redacted(f"password: {SECRET} Bearer {SECRET}")
    assert redacted(once) == once
