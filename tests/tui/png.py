"""Reads and writes the PNG files that the README shows: 8 bits a channel, not interlaced."""

from __future__ import annotations

import struct
import zlib
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
# Bytes of a pixel, by the PNG's colour type.
_BYTES: Final = {2: 3, 3: 1, 6: 4}
_COLOURS_MAX: Final = 256


def read_png(content: bytes) -> Pixels:
    """Rows of pixels of red, green and blue."""
    assert content.startswith(_SIGNATURE), "this is no PNG"
    chunks: dict[bytes, bytes] = {}
    place = len(_SIGNATURE)
    while place < len(content):
        length, kind = struct.unpack_from(">I4s", content, place)
        chunks[kind] = chunks.get(kind, b"") + content[place + 8 : place + 8 + length]
        place += length + 12
    width, height, depth, colour, *_, interlaced = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert (depth, interlaced) == (8, 0)
    each = _BYTES[colour]
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, 1 + width * each)
    found = np.zeros((height, width * each), np.uint8)
    above = np.zeros(width * each, np.uint8)
    for number, line in enumerate(lines):
        above = found[number] = _unfiltered(int(line[0]), line[1:], above, each)
    if colour == 3:
        palette: Pixels = np.frombuffer(chunks[b"PLTE"], np.uint8).reshape(-1, 3)
        return palette[found]
    return found.reshape(height, width, each)[:, :, :3]


def write_png(pixels: Pixels) -> bytes:
    """With a palette of the colours that are used most; each of the others becomes the nearest of them."""
    height, width, _ = pixels.shape
    # The lowest three bits of a channel tell shades apart that nobody can.
    coarse = (pixels >> 3).astype(np.uint32)
    packed = coarse[:, :, 0] << 10 | coarse[:, :, 1] << 5 | coarse[:, :, 2]
    kinds, places, counts = np.unique(packed, return_inverse=True, return_counts=True)
    sums = np.stack([np.bincount(places.ravel(), pixels[:, :, one].ravel()) for one in range(3)], axis=1)
    colours = sums / counts[:, None]
    used = np.argsort(-counts, kind="stable")[:_COLOURS_MAX]
    distance = ((colours[:, None, :] - colours[None, used, :]) ** 2).sum(axis=2)
    indices = distance.argmin(axis=1).astype(np.uint8)[places.reshape(height, width)]
    lines = np.concatenate([np.zeros((height, 1), np.uint8), indices], axis=1)
    assert len(kinds) == len(colours)
    return b"".join(
        (
            _SIGNATURE,
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            _chunk(b"PLTE", colours[used].round().astype(np.uint8).tobytes()),
            _chunk(b"IDAT", zlib.compress(lines.tobytes(), 9)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _unfiltered(kind: int, line: Any, above: Any, each: int) -> Any:
    """A row as it was before its filter (PNG specification, section 9)."""
    if kind == 0:
        return line
    if kind == 1:
        return np.cumsum(line.reshape(-1, each), axis=0, dtype=np.uint8).ravel()
    if kind == 2:
        return line + above
    given, upper = line.tolist(), above.tolist()
    made = [0] * len(given)
    for place, value in enumerate(given):
        left = made[place - each] if place >= each else 0
        up = upper[place]
        if kind == 3:
            made[place] = (value + (left + up) // 2) & 255
            continue
        corner = upper[place - each] if place >= each else 0
        to_left, to_up, to_corner = abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)
        nearest = left if to_left <= min(to_up, to_corner) else up if to_up <= to_corner else corner
        made[place] = (value + nearest) & 255
    return np.array(made, np.uint8)
