"""A model in several files: what they are called, and their headers as one. Pure.

Each has a header of its own, the first one all metadata.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from msgspec.structs import replace

from appliance.errors import GgufError
from appliance.gguf.header import GgufHeader

SUFFIX: Final = ".gguf"
PARTS_MAX: Final = 999
_NAME: Final = re.compile(r"(?P<stem>.+)-(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})\.gguf")


class SplitName(NamedTuple):
    """What the name of one file of several says. number: from 1, of `parts`."""

    stem: str
    number: int
    parts: int


def split_name(file: str) -> SplitName | None:
    """None for a file that is a model by itself. Raises GgufError for numbers that make no sense."""
    found = _NAME.fullmatch(file)
    if found is None:
        return None
    number, count = int(found["number"]), int(found["count"])
    if not 1 <= number <= count <= PARTS_MAX:
        raise GgufError(f"it is named as part {number} of {count}, and there is no part of that number")
    return SplitName(found["stem"], number, count)


def part_names(split: SplitName) -> tuple[str, ...]:
    """Of all parts, in order, as llama.cpp looks for them."""
    return tuple(f"{split.stem}-{number:05}-of-{split.parts:05}{SUFFIX}" for number in range(1, split.parts + 1))


def join_parts(headers: Sequence[GgufHeader]) -> GgufHeader:
    """One header for all parts, in order: the first one's metadata, everybody's tensors and bytes.

    Offsets of tensors still count within their own part. Raises GgufError where the parts are not of one model.
    """
    for number, header in enumerate(headers):
        said = header.metadata.get("split.no", 0), header.metadata.get("split.count", 0)
        if said != (number, len(headers)) and not (len(headers) == 1 and said == (0, 0)):
            raise GgufError(f"it says it is part {_counted(said[0])} of {said[1]}, not {number + 1} of {len(headers)}")
    tensors = tuple(tensor for header in headers for tensor in header.tensors)
    if len({tensor.name for tensor in tensors}) != len(tensors):
        raise GgufError("two of its parts have a tensor of one name")
    wanted = headers[0].metadata.get("split.tensors.count")
    if len(headers) > 1 and wanted != len(tensors):
        raise GgufError(f"its parts have {len(tensors)} tensors, not {wanted}: they are not of one model")
    return replace(headers[0], tensors=tensors, file_bytes=sum(header.file_bytes for header in headers))


def _counted(number: object) -> object:
    return number + 1 if isinstance(number, int) else number
