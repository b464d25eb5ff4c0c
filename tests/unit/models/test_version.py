"""appliance.models.version"""

from __future__ import annotations

import re
from typing import Any

import pytest
from msgspec.structs import replace

from appliance.models.version import fingerprint_of, version_of
from appliance.types import ModelSpec, SamplingParams
from tests.fakes.scripted_worker import INFO

SPEC = ModelSpec(id="a", path="/models/a.gguf", n_gpu_layers=3)


def fingerprint(content: str = "c0ffee", info: dict[str, Any] | None = None, **changes: Any) -> str:
    return fingerprint_of(version_of(replace(SPEC, **changes), replace(INFO, **(info or {})), content))


def test_it_looks_like_openais() -> None:
    assert re.fullmatch("fp_[0-9a-f]{12}", fingerprint())


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "b", "path": "/elsewhere/b.gguf"},
        {"aliases": ("x",), "ttl": 3.0, "pinned": True, "preload": True, "group": "g"},
        {"sampling": SamplingParams(temperature=0)},
        {"threads": 3, "threads_batch": 5, "preempt_host_mib": 0},
        {"info": {"load_seconds": 9.0, "description": "another"}},
    ],
    ids=str,
)
def test_what_changes_no_answer_changes_no_fingerprint(changes: dict[str, Any]) -> None:
    assert fingerprint(**changes) == fingerprint()


@pytest.mark.parametrize(
    "changes",
    [
        {"content": "c0ffef"},
        {"n_ubatch": 64},
        {"n_batch": 64},
        {"cache_type_k": "q8_0"},
        {"cache_type_v": "q8_0"},
        {"flash_attn": "off"},
        {"tensor_split": (1.0, 2.0)},
        {"info": {"gpu_layers": 4}},
        {"info": {"n_ctx": 5}},
        {"info": {"n_ctx_total": 5}},
        {"info": {"parallel": 5}},
        {"info": {"kv": "split"}},
        {"info": {"chat_template_sha256": "aa"}},
        {"info": {"engine_build": "another"}},
    ],
    ids=str,
)
def test_what_may_change_an_answer_changes_it(changes: dict[str, Any]) -> None:
    assert fingerprint(**changes) != fingerprint()


def test_two_words_for_one_setting_are_one() -> None:
    assert fingerprint(flash_attn=True) == fingerprint(flash_attn="on")
    assert fingerprint(flash_attn=False) == fingerprint(flash_attn="off")


def test_how_it_is_made_does_not_change() -> None:
    assert fingerprint() == "fp_6c5f99eddbba"
