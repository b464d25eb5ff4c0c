"""A model in several files: each has a header of its own, the first one all metadata. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from appliance.errors import GgufError
from appliance.gguf.header import GgufHeader


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
