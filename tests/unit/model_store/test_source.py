"""appliance.model_store.source"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from appliance.errors import ChangeRefused
from appliance.model_store.hashes import SIGNATURE, SUMS, sums_text
from appliance.model_store.source import Source, open_source
from tests.models.random_weights import build_random
from tests.models.raw_gguf import HOSTILE, sparse_header
from tests.unit.model_store.conftest import small_model


def looked_at(path: Path) -> Source:
    with open_source(path) as source:
        return source


def refusal(path: Path) -> str:
    with pytest.raises(ChangeRefused) as caught:
        looked_at(path)
    return caught.value.message


def test_a_file(source: Path) -> None:
    found = looked_at(source)
    assert (found.name, found.bytes, [file.name for file in found.files]) == (
        "small",
        source.stat().st_size,
        ["small.gguf"],
    )
    assert found.facts.license == "apache-2.0"


def test_any_part_names_all(tmp_path: Path) -> None:
    build_random(tmp_path / "big.gguf", tensors_per_file=6)
    parts = sorted(path.name for path in tmp_path.iterdir())
    assert len(parts) > 2
    for name in (parts[0], parts[-1], ""):
        found = looked_at(tmp_path / name)
        assert (found.name, [file.name for file in found.files]) == ("big", parts)
        assert found.facts.layers
    for name in parts[1:]:
        (tmp_path / name).unlink()
    assert f"of {len(parts)} files {parts[1]}, " in refusal(tmp_path / parts[0])
    assert "are missing" in refusal(tmp_path)


def test_a_part_under_another_name(tmp_path: Path) -> None:
    build_random(tmp_path / "big.gguf", tensors_per_file=6)
    second = sorted(tmp_path.iterdir())[1]
    second.rename(tmp_path / "alone.gguf")
    assert "it says it is part 2 of" in refusal(tmp_path / "alone.gguf")


def test_a_folder_with_its_hashes(source: Path) -> None:
    folder = source.parent
    assert looked_at(folder).sums is None
    text = sums_text({source.name: "0" * 64})
    (folder / SUMS).write_bytes(text)
    (folder / SIGNATURE).write_bytes(b"signature")
    found = looked_at(folder)
    assert (found.sums, found.signature) == (text, b"signature")
    (folder / "README").touch()
    assert "holds 'README', which its SHA256SUMS does not name" in refusal(folder)
    (folder / "README").unlink()
    (folder / SUMS).write_bytes(sums_text({source.name: "0" * 64, "other.gguf": "0" * 64}))
    assert "must hold one model; it holds other, small" in refusal(folder)
    (folder / SUMS).write_bytes(bytes(300_000))
    assert "larger than" in refusal(folder)


def test_a_folder_with_more_or_less_than_a_model(tmp_path: Path, source: Path) -> None:
    assert "it holds none" in refusal(tmp_path)
    (source.parent / "notes.txt").touch()
    assert looked_at(source.parent).name == "small"
    (source.parent / "bigger.gguf").write_bytes(small_model())
    assert "it holds bigger, small. Name a file in it" in refusal(source.parent)


def test_of_forty_gigabytes_the_header_is_read(tmp_path: Path) -> None:
    def read_bytes() -> int:
        fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
        return int(fields["rchar"])

    path, size = tmp_path / "large.gguf", 40 * 2**30
    path.write_bytes(sparse_header(size))
    os.truncate(path, path.stat().st_size + size)
    before = read_bytes()
    assert looked_at(path).facts.weight_bytes == size
    assert read_bytes() - before < 8 * 2**20


def test_files_with_names_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "my model.gguf").write_bytes(small_model())
    assert "'my model.gguf' cannot be a model's file" in refusal(tmp_path / "my model.gguf")
    assert "'my model.gguf' cannot be a model's file" in refusal(tmp_path)


@pytest.mark.parametrize("kind", HOSTILE)
def test_each_kind_of_hostile_file_has_its_reason(tmp_path: Path, recite_gguf: Path, kind: str) -> None:
    path, good = tmp_path / "m.gguf", recite_gguf.read_bytes()
    for seed in range(3):
        path.write_bytes(HOSTILE[kind](random.Random(seed), good))
        message = refusal(path)
        assert message.startswith("m.gguf is refused: it")
        assert message.isprintable()
