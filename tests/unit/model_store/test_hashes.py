"""appliance.model_store.hashes"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import ChangeRefused
from appliance.model_store.hashes import parse_sha256, parse_sums, sums_text

names = st.text("aZ09._-", max_size=20).map("m".__add__)
hashes = st.dictionaries(names, st.binary(min_size=32, max_size=32).map(bytes.hex), min_size=1, max_size=20)


@given(hashes)
def test_what_is_written_is_read(found: dict[str, str]) -> None:
    assert parse_sums(sums_text(found)) == found


@given(st.binary(max_size=400))
def test_garbage_is_refused_and_nothing_else_happens(text: bytes) -> None:
    with pytest.raises(ChangeRefused):
        parse_sums(text)


def test_sha256sum_reads_it_and_we_read_what_it_writes(tmp_path: Path) -> None:
    for name in ("b.gguf", "a.gguf"):
        (tmp_path / name).write_text(name)
    command = ("sha256sum", "a.gguf", "b.gguf")
    theirs = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True).stdout
    assert sums_text(parse_sums(theirs)) == theirs
    assert parse_sums(theirs.replace(b"  ", b" *")) == parse_sums(theirs)


@pytest.mark.parametrize("name", ["../a.gguf", "/a.gguf", ".a", "a b"])
def test_a_name_that_leads_elsewhere(name: str) -> None:
    with pytest.raises(ChangeRefused, match="line 1 is no SHA-256"):
        parse_sums(sums_text({name: "0" * 64}))


def test_one_name_twice() -> None:
    with pytest.raises(ChangeRefused, match="line 2"):
        parse_sums(sums_text({"a": "0" * 64}) * 2)


def test_a_hash_alone() -> None:
    assert parse_sha256("AB" * 32) == "ab" * 32
    for wrong in ("", "ab", "g" * 64, "0" * 65):
        with pytest.raises(ChangeRefused):
            parse_sha256(wrong)
