"""appliance.models.content_digest"""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import StateError
from appliance.models.content_digest import BLOCK_BYTES, BLOCKS, HEAD_BYTES, content_digest, pieces
from appliance.models.file_identity import FileIdentity

LARGE = 40 * 2**30


@given(st.integers(min_value=0, max_value=2**50))
def test_pieces_are_in_order_and_bounded_and_reach_the_end(total: int) -> None:
    found = list(pieces(total))
    assert all(0 <= start <= end <= total for start, end in found)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(found))
    assert sum(end - start for start, end in found) <= HEAD_BYTES + BLOCKS * BLOCK_BYTES
    assert found[-1][1] == total
    if total <= HEAD_BYTES + BLOCKS * BLOCK_BYTES:
        assert sum(end - start for start, end in found) == total


def test_a_copy_elsewhere_has_the_same(tmp_path: Path) -> None:
    first, second = tmp_path / "a.gguf", tmp_path / "b.gguf"
    first.write_bytes(b"GGUF" + bytes(1000))
    second.write_bytes(first.read_bytes())
    link = tmp_path / "link.gguf"
    link.symlink_to(first)
    digests = {content_digest(str(path))[1] for path in (first, second, link)}
    assert len(digests) == 1
    second.write_bytes(b"GGUF" + bytes(999) + b"\1")
    assert content_digest(str(second))[1] not in digests
    assert content_digest(str(first))[0] == FileIdentity.of(str(first))


def test_a_large_file_is_read_in_parts(tmp_path: Path) -> None:
    """A sparse one: reading all of it would take a minute."""
    path = tmp_path / "large.gguf"
    digests = []
    for place in (None, 0, HEAD_BYTES - 1, HEAD_BYTES, LARGE - 1):
        with path.open("wb") as file:
            file.truncate(LARGE)
            if place is not None:
                os.pwrite(file.fileno(), b"\1", place)
        digests.append(content_digest(str(path))[1])
    os.truncate(path, LARGE - 1)
    digests.append(content_digest(str(path))[1])
    assert len(set(digests)) == len(digests)


def test_all_parts_of_a_model_count(tmp_path: Path) -> None:
    first, second = (tmp_path / f"m-{number:05}-of-00002.gguf" for number in (1, 2))
    first.write_bytes(b"GGUF" * 10)
    with pytest.raises(FileNotFoundError):
        content_digest(str(first))
    second.write_bytes(b"GGUF" * 20)
    whole = content_digest(str(first))
    assert whole[0].bytes == 120
    second.write_bytes(b"GGUF" * 19 + b"GGUG")
    assert content_digest(str(first))[1] != whole[1]
    # Where one ends and the next begins counts too.
    first.write_bytes(b"GGUF" * 11)
    second.write_bytes(b"GGUF" * 19)
    assert content_digest(str(first))[1] != whole[1]


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.gguf")
    for name in ("fifo.gguf", "."):
        with pytest.raises(StateError, match="no regular file"):
            content_digest(str(tmp_path / name))
