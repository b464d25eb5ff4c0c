"""GGUF files byte by byte: also such as no writer makes."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from typing import Final

ARRAY: Final = 9
STRING: Final = 8


def string(text: bytes | str) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(data)) + data


def item(key: str, kind: int, value: bytes) -> bytes:
    return string(key) + struct.pack("<I", kind) + value


def tensor(name: str, shape: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    sizes = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return string(name) + sizes + struct.pack("<IQ", kind, offset)


def model(*, metadata: tuple[bytes, ...] = (), tensors: tuple[bytes, ...] = (), data: int = 0, **counts: int) -> bytes:
    """A whole file. metadata_count, tensor_count, version: what the header says instead of the truth."""
    version = counts.get("version", 3)
    numbers = counts.get("tensor_count", len(tensors)), counts.get("metadata_count", len(metadata))
    head = b"GGUF" + struct.pack("<IQQ", version, *numbers) + b"".join(metadata) + b"".join(tensors)
    return head + bytes(-len(head) % 32) + bytes(data)


def u32(number: int) -> bytes:
    return struct.pack("<I", number)


def u64(number: int) -> bytes:
    return struct.pack("<Q", number)


ARCHITECTURE: Final = item("general.architecture", STRING, string("llama"))
WEIGHTS: Final = tensor("token_embd.weight", (8,))


def sparse_header(tensor_bytes: int) -> bytes:
    """The head of a model whose one tensor takes so many bytes; the data is the caller's to add."""
    return model(metadata=(ARCHITECTURE,), tensors=(tensor("token_embd.weight", (tensor_bytes // 4,)),))


Kind = Callable[[random.Random, bytes], bytes]


def _metadata(*metadata: bytes, **counts: int) -> bytes:
    return model(metadata=(ARCHITECTURE, *metadata), tensors=(WEIGHTS,), data=32, **counts)


def _tensors(*tensors: bytes, data: int = 64, **counts: int) -> bytes:
    return model(metadata=(ARCHITECTURE,), tensors=tensors, data=data, **counts)


def _large(chance: random.Random, least: int) -> int:
    return chance.choice((least, least + chance.randrange(2**20), 2**31, 2**32 - 1, 2**63, 2**64 - 1))


# Each must be refused, whatever chance decides. The second argument is a good file.
HOSTILE: Final[dict[str, Kind]] = {
    "truncated": lambda chance, good: good[: chance.randrange(len(good))],
    "truncated in its header": lambda chance, good: good[: chance.randrange(min(4096, len(good)))],
    "another magic": lambda chance, good: chance.randbytes(3) + b"\0" + good[4:],
    "unknown version": lambda chance, good: good[:4] + u32(chance.choice((0, 1, 4, 2**32 - 1))) + good[8:],
    "many metadata": lambda chance, good: _metadata(metadata_count=_large(chance, 4097)),
    "many tensors": lambda chance, good: _tensors(WEIGHTS, tensor_count=_large(chance, 65_537)),
    "more metadata than there are": lambda chance, good: _metadata(metadata_count=chance.randrange(3, 4096)),
    "long string": lambda chance, good: _metadata(
        item("a", STRING, u64(_large(chance, 2**20 + 1)) + bytes(chance.randrange(64)))
    ),
    "long key": lambda chance, good: _metadata(u64(_large(chance, 257)) + bytes(300)),
    "long array": lambda chance, good: _metadata(
        item("a", ARRAY, u32(chance.choice((0, 4, 8, 10))) + u64(_large(chance, 2**20 + 1)))
    ),
    "array of arrays": lambda chance, good: _metadata(item("a", ARRAY, u32(ARRAY) + u64(chance.randrange(1, 2**20)))),
    "unknown type": lambda chance, good: _metadata(item("a", chance.randrange(13, 2**32), bytes(8))),
    "two of one key": lambda chance, good: _metadata(item("a", 4, u32(1)), item("a", 4, u32(chance.randrange(9)))),
    "dimensions that overflow": lambda chance, good: _tensors(
        tensor("a", (_large(chance, 2**40), _large(chance, 2**30), 2**20, 2**10))
    ),
    "no dimensions": lambda chance, good: _tensors(tensor("a", ())),
    "many dimensions": lambda chance, good: _tensors(tensor("a", (1,) * chance.randrange(5, 99))),
    "an empty dimension": lambda chance, good: _tensors(tensor("a", (chance.randrange(1, 9), 0))),
    "a part of a block": lambda chance, good: _tensors(tensor("a", (32 * chance.randrange(9) + 1,), kind=2)),
    "unknown tensor type": lambda chance, good: _tensors(tensor("a", (8,), kind=chance.randrange(99, 2**32))),
    "offset behind the end": lambda chance, good: _tensors(tensor("a", (8,), offset=32 * chance.randrange(2, 2**58))),
    "offset that is not aligned": lambda chance, good: _tensors(tensor("a", (1,), offset=chance.randrange(1, 32))),
    "tensors over each other": lambda chance, good: _tensors(tensor("a", (16,)), tensor("b", (4,), offset=32)),
    "two tensors of one name": lambda chance, good: _tensors(WEIGHTS, tensor("token_embd.weight", (8,), offset=32)),
    "more bytes than the file has": lambda chance, good: _tensors(tensor("a", (chance.randrange(17, 2**50),))),
    "an alignment": lambda chance, good: _metadata(
        item("general.alignment", 4, u32(chance.choice((0, 3, 31, 2**21, 2**32 - 1))))
    ),
    "a long template": lambda chance, good: _metadata(
        item("tokenizer.chat_template", STRING, string("a" * chance.randrange(65_537, 2**20)))
    ),
    "no architecture": lambda chance, good: model(tensors=(WEIGHTS,), data=32),
    "an architecture that is a number": lambda chance, good: model(
        metadata=(item("general.architecture", 4, u32(7)),), tensors=(WEIGHTS,), data=32
    ),
    "many layers": lambda chance, good: _metadata(item("llama.block_count", 4, u32(chance.randrange(1025, 2**32)))),
    "no weights": lambda chance, good: _tensors(data=chance.randrange(99)),
    "a part of several": lambda chance, good: _metadata(
        item("split.no", 2, struct.pack("<H", 1)), item("split.count", 2, struct.pack("<H", chance.randrange(2, 99)))
    ),
    "noise": lambda chance, good: b"GGUF" + u32(3) + chance.randbytes(chance.randrange(16, 4096)),
    "nothing": lambda chance, good: b"",
}
