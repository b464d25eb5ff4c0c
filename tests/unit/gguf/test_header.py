"""appliance.gguf.header"""

from __future__ import annotations

import io
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf.constants import GGML_QUANT_SIZES
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import GgufError
from appliance.gguf import header
from appliance.gguf.header import HEADER_BYTES_MAX, Array, GgufHeader, read_header
from appliance.gguf.tensor_types import TENSOR_TYPES
from tests.models.raw_gguf import item, model, string, tensor


def read(path: Path) -> GgufHeader:
    with path.open("rb") as file:
        return read_header(file)


@pytest.fixture
def read_bytes(tmp_path: Path) -> Callable[[bytes], GgufHeader]:
    def reading(data: bytes) -> GgufHeader:
        path = tmp_path / "m.gguf"
        path.write_bytes(data)
        return read(path)

    return reading


def test_the_types_are_those_of_the_gguf_package() -> None:
    theirs = {int(kind): (kind.name, *sizes) for kind, sizes in GGML_QUANT_SIZES.items()}
    assert {kind: tuple(known) for kind, known in TENSOR_TYPES.items()} == theirs


def test_a_file_of_the_gguf_package_is_read_as_it_reads_it(recite_gguf: Path) -> None:
    theirs, ours = gguf.GGUFReader(recite_gguf), read(recite_gguf)
    assert ours.version == 3
    assert ours.data_offset == theirs.data_offset
    assert ours.file_bytes == recite_gguf.stat().st_size
    assert [(one.name, list(one.shape), one.type.name, one.bytes) for one in ours.tensors] == [
        (one.name, one.shape.tolist(), one.tensor_type.name, one.n_bytes) for one in theirs.tensors
    ]
    names = {name for name in theirs.fields if not name.startswith("GGUF.")}
    assert ours.metadata.keys() == names
    for name in names:
        found, known = ours.metadata[name], theirs.fields[name].contents()
        if isinstance(found, Array):
            assert found.count == len(known)
            assert found.values is None or list(found.values) == pytest.approx(known)
        else:
            assert found == known


@pytest.mark.parametrize("values", [1023, 1024, 1025, 20_000])
def test_a_long_array_is_counted_and_passed_over(tmp_path: Path, values: int) -> None:
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_array("words", [f"word {number}" for number in range(values)])
    writer.add_array("numbers", list(range(values)))
    writer.add_string("after", "there")
    writer.add_tensor("t", np.zeros((2, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = read(path)
    words, numbers = found.metadata["words"], found.metadata["numbers"]
    assert isinstance(words, Array)
    assert isinstance(numbers, Array)
    assert words.count == numbers.count == values
    assert (words.values is None, numbers.values is None) == (values > 1024, values > 1024)
    assert found.metadata["after"] == "there"
    assert found.tensors[0].bytes == 256


F32 = 0
Q4_K = 12
HOSTILE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "cut short"),
    "other": (b"GGML" + bytes(64), "does not begin with GGUF"),
    "big endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "version 50331648"),
    "version 1": (model(version=1), "version 1"),
    "tensors": (model(tensor_count=2**63), "tensors, more than"),
    "metadata": (model(metadata_count=5000), "metadata, more than"),
    "more metadata than there is": (model(metadata_count=7), "cut short"),
    "long name": (model(metadata=(string("x" * 300) + bytes(8),)), "string of 300 bytes"),
    "long string": (model(metadata=(item("a", 8, struct.pack("<Q", 2**40)),)), "string of 1099511627776 bytes"),
    "long array": (model(metadata=(item("a", 9, struct.pack("<IQ", 0, 2**50)),)), "values, more than"),
    "array of arrays": (model(metadata=(item("a", 9, struct.pack("<IQ", 9, 1)),)), "type that is not known"),
    "long array of nothing": (model(metadata=(item("a", 9, struct.pack("<IQ", 8, 2**19)),)), "cut short"),
    "long array of unknown": (model(metadata=(item("a", 9, struct.pack("<IQ", 77, 2**19)),)), "not known here (77)"),
    "value of an unknown type": (model(metadata=(item("a\x1b[2J", 13, b""),)), "not known here (13)"),
    "twice": (model(metadata=(item("a", 0, b"1"), item("a", 0, b"1"))), "'a' twice"),
    "no dimension": (model(tensors=(tensor("t", ()),)), "0 dimensions"),
    "many dimensions": (model(tensors=(tensor("t", (1, 1, 1, 1, 1)),)), "5 dimensions"),
    "type that is gone": (model(tensors=(tensor("t", (32,), 4),), data=64), "not known here (4)"),
    "no value": (model(tensors=(tensor("t", (0, 4)),)), "impossible shape"),
    "half a block": (model(tensors=(tensor("t", (128,), Q4_K),), data=144), "impossible shape for Q4_K"),
    "overflow": (model(tensors=(tensor("t", (2**40, 2**40)),)), "impossible shape"),
    "overflow to little": (model(tensors=(tensor("t", (2**32, 2**32, 2)),)), "impossible shape"),
    "outside": (model(tensors=(tensor("t", (64,)),), data=255), "cut short"),
    "far outside": (model(tensors=(tensor("t", (8,), F32, 2**62),), data=64), "cut short"),
    "crooked": (model(tensors=(tensor("t", (8,), F32, 8),), data=64), "not aligned"),
    "overlap": (model(tensors=(tensor("a", (16,)), tensor("b", (8,), F32, 32)), data=64), "'b' lies over another"),
    "same place": (model(tensors=(tensor("a", (8,)), tensor("b", (8,))), data=32), "lies over another"),
    "same name": (model(tensors=(tensor("a", (8,)), tensor("a", (8,), F32, 32)), data=64), "two tensors of one name"),
    "alignment 3": (model(metadata=(item("general.alignment", 4, struct.pack("<I", 3)),)), "power of two"),
    "alignment 0": (model(metadata=(item("general.alignment", 4, bytes(4)),)), "power of two"),
    "alignment text": (model(metadata=(item("general.alignment", 8, string("32")),)), "power of two"),
    "alignment true": (model(metadata=(item("general.alignment", 7, b"\1"),)), "power of two"),
    "alignment huge": (model(metadata=(item("general.alignment", 10, struct.pack("<Q", 2**40)),)), "power of two"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_each_is_refused_with_its_reason(read_bytes: Callable[[bytes], GgufHeader], what: str) -> None:
    data, reason = HOSTILE[what]
    with pytest.raises(GgufError) as refused:
        read_bytes(data)
    assert reason in str(refused.value)
    assert str(refused.value).startswith(("it ", "its "))
    assert str(refused.value).isprintable()


def test_what_is_allowed_at_the_edge(read_bytes: Callable[[bytes], GgufHeader]) -> None:
    assert read_bytes(model()).tensors == ()
    found = read_bytes(model(tensors=(tensor("b", (8,), F32, 32), tensor("a", (8,))), data=64))
    assert [one.name for one in found.tensors] == ["b", "a"]
    assert read_bytes(model(metadata=(item("a", 8, string(b"\xff")),))).metadata["a"] == "\ufffd"


def test_a_header_without_end_is_not_read_to_its_end(tmp_path: Path) -> None:
    """Sparse on the disk: a gigabyte of strings without a character."""
    path = tmp_path / "m.gguf"
    with path.open("wb") as file:
        file.write(model(metadata=tuple(item(f"a{n}", 9, struct.pack("<IQ", 10, 2**20)) for n in range(1)))[:-32])
        file.write(b"GGUF")
        file.truncate(2 * HEADER_BYTES_MAX)
    many = b"GGUF" + struct.pack("<IQQ", 3, 0, 4096)
    body = item("a", 9, struct.pack("<IQ", 10, 2**20))
    path.write_bytes(many + body)
    with path.open("r+b") as file:
        file.truncate(2 * HEADER_BYTES_MAX)
    with pytest.raises(GgufError):
        read(path)


class Shrinking(io.FileIO):
    """Somebody cuts it while it is read."""

    def read(self, size: int | None = -1, /) -> bytes:
        return b""


def test_a_file_that_becomes_shorter(recite_gguf: Path) -> None:
    with Shrinking(recite_gguf) as file, pytest.raises(GgufError, match="became shorter"):
        read_header(file)


@given(st.integers(0, 2**32), st.integers(1, 6))
def test_whatever_is_damaged_it_is_a_header_or_a_reason(
    recite_gguf: Path, tmp_path_factory: pytest.TempPathFactory, seed: int, changes: int
) -> None:
    chance = random.Random(seed)
    whole = recite_gguf.read_bytes()
    end = read(recite_gguf).data_offset
    data = bytearray(whole)
    for _ in range(changes):
        place = chance.randrange(end)
        match chance.randrange(4):
            case 0:
                data[place] ^= 1 << chance.randrange(8)
            case 1:
                data[place : place + 8] = chance.randbytes(8)
            case 2:
                data[place : place + 8] = b"\xff" * 8
            case 3:
                del data[place : place + chance.randrange(1, 64)]
    if chance.random() < 0.3:
        del data[chance.randrange(len(data)) :]
    path = tmp_path_factory.mktemp("damaged", numbered=True) / "m.gguf"
    path.write_bytes(data)
    try:
        found: Any = read(path)
    except GgufError as error:
        assert str(error).isprintable()
    else:
        assert all(one.offset + one.bytes <= len(data) - found.data_offset for one in found.tensors)
    path.unlink()


def test_bounds_are_what_the_documentation_says() -> None:
    assert (header.METADATA_MAX, header.TENSORS_MAX, header.STRING_BYTES_MAX) == (4096, 65_536, 2**20)
