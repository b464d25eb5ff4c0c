"""Reading the header of a GGUF file: its metadata and the table of its tensors, with a bound on everything.

Format, little-endian throughout (ggml's docs/gguf.md, versions 2 and 3):

    magic "GGUF" | version u32 | number of tensors u64 | number of metadata u64
    metadata:  key string | type u32 | value                      an array: type u32 | count u64 | values
    tensors:   name string | dimensions u32 | size u64 of each | type u32 | offset u64
    padding to `general.alignment`, then the data that the offsets count from
    string:    bytes u64 | UTF-8

Whatever a file says, reading it ends within HEADER_BYTES_MAX and with a header or a GgufError. The vocabulary, which is
most of a header, is counted and passed over.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from typing import BinaryIO, Final

from msgspec import Struct

from appliance.errors import GgufError
from appliance.gguf.tensor_types import TENSOR_TYPES, TensorType
from appliance.safe_text import safe_text

MAGIC: Final = b"GGUF"
VERSIONS: Final = (2, 3)
HEADER_BYTES_MAX: Final = 256 * 2**20
METADATA_MAX: Final = 4096
TENSORS_MAX: Final = 65_536
STRING_BYTES_MAX: Final = 2**20
NAME_BYTES_MAX: Final = 256
ARRAY_VALUES_MAX: Final = 2**20
# What a layer or a language needs; a vocabulary is longer.
KEPT_VALUES_MAX: Final = 1024
DIMENSIONS_MAX: Final = 4
ALIGNMENT_DEFAULT: Final = 32
ALIGNMENT_MAX: Final = 2**20

# What is read at once stays with the process: the allocator keeps large blocks for the next one.
_READ_BYTES: Final = 256 * 2**10
_U32: Final = struct.Struct("<I")
_U64: Final = struct.Struct("<Q")
_SCALARS: Final[dict[int, struct.Struct]] = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: struct.Struct("<I"),
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    7: struct.Struct("<?"),
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}
_STRING: Final = 8
_ARRAY: Final = 9

Scalar = int | float | bool | str


class Array(Struct, frozen=True):
    """A metadata value with many values. values: of short ones, None where there are more than KEPT_VALUES_MAX."""

    count: int
    values: tuple[Scalar, ...] | None


class Tensor(Struct, frozen=True):
    """shape: the fastest changing size first. offset: from the start of the data, in bytes."""

    name: str
    shape: tuple[int, ...]
    type: TensorType
    offset: int

    @property
    def values(self) -> int:
        """How many it has."""
        product = 1
        for size in self.shape:
            product *= size
        return product

    @property
    def bytes(self) -> int:
        """What it takes in the file, and in memory."""
        return self.values // self.type.block_values * self.type.block_bytes


class GgufHeader(Struct, frozen=True):
    """metadata: by key. data_offset: where tensors begin, in bytes from the start of the file of `file_bytes`."""

    version: int
    metadata: Mapping[str, Scalar | Array]
    tensors: tuple[Tensor, ...]
    data_offset: int
    file_bytes: int


def read_header(file: BinaryIO) -> GgufHeader:
    """The header of a file opened for reading, from its start. Blocks for up to some 100 ms.

    Raises GgufError with what is wrong, and OSError.
    """
    reader = _Reader(file)
    if reader.take(4) != MAGIC:
        raise GgufError("it does not begin with GGUF")
    version = reader.u32()
    if version not in VERSIONS:
        raise GgufError(f"it is of GGUF version {version}; {VERSIONS[0]} and {VERSIONS[1]} can be read")
    tensor_count, metadata_count = reader.u64(), reader.u64()
    if tensor_count > TENSORS_MAX:
        raise GgufError(f"it has {tensor_count} tensors, more than {TENSORS_MAX}")
    if metadata_count > METADATA_MAX:
        raise GgufError(f"it has {metadata_count} metadata, more than {METADATA_MAX}")
    metadata: dict[str, Scalar | Array] = {}
    for _ in range(metadata_count):
        key = reader.name()
        if key in metadata:
            raise GgufError(f"it has {safe_text(key)!r} twice")
        metadata[key] = reader.value(key)
    tensors = [_tensor(reader) for _ in range(tensor_count)]
    alignment = _alignment(metadata)
    data_offset = -(-reader.position // alignment) * alignment
    _check_tensors(tensors, alignment, max(0, reader.file_bytes - data_offset))
    return GgufHeader(version, metadata, tuple(tensors), data_offset, reader.file_bytes)


class _Reader:
    """What of the file has been read, and how far it has been understood."""

    def __init__(self, file: BinaryIO) -> None:
        self.file_bytes = os.fstat(file.fileno()).st_size
        self.position = 0
        self._file = file
        self._data = bytearray()

    def u32(self) -> int:
        number: int = _U32.unpack_from(self._data, self._advance(4))[0]
        return number

    def u64(self) -> int:
        number: int = _U64.unpack_from(self._data, self._advance(8))[0]
        return number

    def take(self, count: int) -> bytes:
        start = self._advance(count)
        return bytes(self._data[start : start + count])

    def name(self) -> str:
        return self._string(NAME_BYTES_MAX)

    def value(self, key: str) -> Scalar | Array:
        kind = self.u32()
        if kind != _ARRAY:
            return self._scalar(key, kind)
        kind, count = self.u32(), self.u64()
        if count > ARRAY_VALUES_MAX:
            raise GgufError(f"its {safe_text(key)!r} has {count} values, more than {ARRAY_VALUES_MAX}")
        if count <= KEPT_VALUES_MAX:
            return Array(count, tuple(self._scalar(key, kind) for _ in range(count)))
        if kind == _STRING:
            self._pass_strings(count)
        else:
            self._advance(count * _scalar_type(key, kind).size)
        return Array(count, None)

    def _scalar(self, key: str, kind: int) -> Scalar:
        if kind == _STRING:
            return self._string(STRING_BYTES_MAX)
        form = _scalar_type(key, kind)
        value: Scalar = form.unpack_from(self._data, self._advance(form.size))[0]
        return value

    def _string(self, most: int) -> str:
        length = self.u64()
        if length > most:
            raise GgufError(f"it has a string of {length} bytes where at most {most} may be")
        return self.take(length).decode(errors="replace")

    def _pass_strings(self, count: int) -> None:
        """Half a million of them have to be passed over in some 100 ms, so nothing is called for each."""
        data, position, length_of = self._data, self.position, _U64.unpack_from
        for _ in range(count):
            if position + 8 > len(data):
                self._read_to(position + 8)
            length = length_of(data, position)[0]
            if length > STRING_BYTES_MAX:
                raise GgufError(f"it has a string of {length} bytes where at most {STRING_BYTES_MAX} may be")
            position += 8 + length
        self._read_to(position)
        self.position = position

    def _advance(self, count: int) -> int:
        """Where the next `count` bytes begin, which are there."""
        start = self.position
        if start + count > len(self._data):
            self._read_to(start + count)
        self.position = start + count
        return start

    def _read_to(self, end: int) -> None:
        if end > self.file_bytes:
            raise GgufError("it ends before its header does: it is cut short, or damaged")
        if end > HEADER_BYTES_MAX:
            raise GgufError(f"its header is longer than {HEADER_BYTES_MAX // 2**20} MiB")
        while len(self._data) < end:
            more = self._file.read(max(_READ_BYTES, end - len(self._data)))
            if not more:
                raise GgufError("it became shorter while it was read")
            self._data += more


def _scalar_type(key: str, kind: int) -> struct.Struct:
    form = _SCALARS.get(kind)
    if form is None:
        raise GgufError(f"its {safe_text(key)!r} is of a type that is not known here ({kind})")
    return form


def _tensor(reader: _Reader) -> Tensor:
    name, dimensions = reader.name(), reader.u32()
    if not 1 <= dimensions <= DIMENSIONS_MAX:
        raise GgufError(f"its tensor {safe_text(name)!r} has {dimensions} dimensions")
    shape = tuple(reader.u64() for _ in range(dimensions))
    kind, offset = reader.u32(), reader.u64()
    found = TENSOR_TYPES.get(kind)
    if found is None:
        raise GgufError(f"its tensor {safe_text(name)!r} is of a type that is not known here ({kind})")
    tensor = Tensor(name, shape, found, offset)
    # The engine counts values in 63 bits.
    if min(shape) < 1 or tensor.values >= 2**63 or shape[0] % found.block_values:
        raise GgufError(f"its tensor {safe_text(name)!r} has an impossible shape for {found.name}: {shape}")
    return tensor


def _alignment(metadata: Mapping[str, Scalar | Array]) -> int:
    alignment = metadata.get("general.alignment", ALIGNMENT_DEFAULT)
    if (
        not isinstance(alignment, int)
        or alignment is True
        or not 1 <= alignment <= ALIGNMENT_MAX
        or alignment & (alignment - 1)
    ):
        raise GgufError(f"its general.alignment is no power of two up to {ALIGNMENT_MAX}")
    return alignment


def _check_tensors(tensors: list[Tensor], alignment: int, data_bytes: int) -> None:
    """Each in its place: aligned, inside the file, named once, and over no other."""
    if len({tensor.name for tensor in tensors}) != len(tensors):
        raise GgufError("it has two tensors of one name")
    end = 0
    for tensor in sorted(tensors, key=lambda tensor: tensor.offset):
        name = safe_text(tensor.name)
        if tensor.offset % alignment:
            raise GgufError(f"its tensor {name!r} is not aligned to {alignment} bytes")
        if tensor.offset < end:
            raise GgufError(f"its tensor {name!r} lies over another")
        end = tensor.offset + tensor.bytes
        if end > data_bytes:
            raise GgufError(f"it ends before its tensor {name!r} does: it is cut short, or damaged")
