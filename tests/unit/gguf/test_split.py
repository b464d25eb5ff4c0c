"""appliance.gguf.split"""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from appliance.errors import GgufError
from appliance.gguf.facts import facts_of
from appliance.gguf.header import GgufHeader, read_header
from appliance.gguf.split import join_parts
from tests.models.raw_gguf import ARCHITECTURE, item, model, tensor


def header(tmp_path: Path, name: str, number: int, count: int, tensors: int = 2) -> GgufHeader:
    metadata = (
        *((ARCHITECTURE,) if number == 0 else ()),
        item("split.no", 2, struct.pack("<H", number)),
        item("split.count", 2, struct.pack("<H", count)),
        item("split.tensors.count", 5, struct.pack("<i", tensors)),
    )
    path = tmp_path / "part.gguf"
    path.write_bytes(model(metadata=metadata, tensors=(tensor(name, (8,)),), data=32))
    with path.open("rb") as file:
        return read_header(file)


def test_parts_are_one_model(tmp_path: Path) -> None:
    joined = join_parts([header(tmp_path, "blk.0.a", 0, 2), header(tmp_path, "blk.0.b", 1, 2)])
    facts = facts_of(joined)
    assert (facts.parameters, facts.weight_bytes, facts.split) == (16, 64, (0, 2))


def test_one_part_is_itself(tmp_path: Path) -> None:
    found = header(tmp_path, "a", 0, 1, 1)
    assert join_parts([found]).tensors == found.tensors


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([("a", 0, 2, 2), ("a", 1, 2, 2)], "two of its parts have a tensor of one name"),
        ([("a", 0, 2, 2), ("b", 0, 2, 2)], "it says it is part 1 of 2, not 2 of 2"),
        ([("a", 0, 3, 2), ("b", 1, 3, 2)], "it says it is part 1 of 3, not 1 of 2"),
        ([("a", 1, 2, 2)], "it says it is part 2 of 2, not 1 of 1"),
        ([("a", 0, 2, 3), ("b", 1, 2, 3)], "have 2 tensors, not 3"),
    ],
)
def test_parts_of_different_models(tmp_path: Path, parts: list[tuple[str, int, int, int]], reason: str) -> None:
    with pytest.raises(GgufError, match=reason):
        join_parts([header(tmp_path, *part) for part in parts])
