from __future__ import annotations

import json
from typing import Any

import pytest

from installer.errors import Refused
from installer.manifest import BundledFile, parse
from tests.unit.installer.made import FACTS, manifest

FILE = {"path": "wheels/a-1.0-py3-none-any.whl", "size": 3, "sha256": "0" * 64, "mode": "0755"}


def raw(**facts: Any) -> bytes:
    return json.dumps({"product": "llm-appliance", "format": 1, **FACTS, "files": [FILE], **facts}).encode()


def test_what_it_says_is_read() -> None:
    found = parse(raw(driver_min="580.65", backend="cuda13", pythons=["3.11", "3.12"]))
    assert (found.version, found.driver_min, found.pythons) == ("1.0.0", "580.65", ("3.11", "3.12"))
    assert found.files == (BundledFile("wheels/a-1.0-py3-none-any.whl", 3, "0" * 64, 0o755),)


@pytest.mark.parametrize(
    "facts",
    [
        {"product": "another"},
        {"format": 2},
        {"sequence": -1},
        {"sequence": True},
        {"sequence": "1"},
        {"version": "../1.0.0"},
        {"version": None},
        {"backend": "rocm"},
        {"files": []},
        {"files": [FILE, FILE]},
        {"files": [FILE, FILE | {"path": "wheels"}]},
        *({"files": [FILE | {"path": path}]} for path in ("/etc/passwd", "a/../b", "..", ".hidden", "a//b", "a b", "")),
        *({"files": [FILE | {"path": path}]} for path in ("MANIFEST.json", "MANIFEST.sig", "x" * 201)),
        {"files": [FILE | {"mode": "4755"}]},
        {"files": [FILE | {"size": 2**40}]},
        {"files": [FILE | {"sha256": "0"}]},
    ],
)
def test_what_it_must_not_say_is_refused(facts: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        parse(raw(**facts))


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b"[" * 100_000, raw()[:-1] + b', "version": "2.0.0"}'])
def test_what_is_no_manifest_is_refused(content: bytes) -> None:
    with pytest.raises(Refused):
        parse(content)


def test_a_missing_word_is_named() -> None:
    found = json.loads(raw())
    del found["glibc"]
    with pytest.raises(Refused, match="glibc"):
        parse(json.dumps(found).encode())
    assert manifest().glibc == "2.34"
