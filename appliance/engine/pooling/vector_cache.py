"""Vectors of texts that were computed before: opt-in, bounded in bytes, parted by cache domain.

It lives with the loaded model, in its worker: what is found is this very file's, and goes when the model goes. Keys are
digests of the tokens, so that a text, the same text as token ids, and a text that was cut to it find each other. A
vector that another cache domain asked for is never found: by the time of an answer nobody learns what others embed.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Final

import numpy as np

from appliance.engine.pooling.vectors import Vector

# Digest, dictionary entry, array header.
ENTRY_BYTES: Final = 320


class VectorCache:
    """Least recently used goes first. Belongs to the engine thread."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._vectors: OrderedDict[bytes, Vector] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._vectors)

    @property
    def bytes(self) -> int:
        """Taken by all of it, about."""
        return self._bytes

    def find(self, domain: str, tokens: list[int]) -> Vector | None:
        """The vector of exactly these tokens."""
        if not self._bytes_max:
            return None
        key = _key(domain, tokens)
        vector = self._vectors.get(key)
        if vector is not None:
            self._vectors.move_to_end(key)
        return vector

    def keep(self, domain: str, tokens: list[int], vector: Vector) -> None:
        """Adds a vector; what is older goes where there is no room."""
        size = vector.nbytes + ENTRY_BYTES
        if size > self._bytes_max:
            return
        key = _key(domain, tokens)
        if key in self._vectors:
            return
        self._vectors[key] = vector
        self._bytes += size
        while self._bytes > self._bytes_max:
            _, oldest = self._vectors.popitem(last=False)
            self._bytes -= oldest.nbytes + ENTRY_BYTES


def _key(domain: str, tokens: list[int]) -> bytes:
    name = domain.encode()
    head = len(name).to_bytes(4, "little") + name
    return hashlib.sha256(head + np.asarray(tokens, "<i4").tobytes()).digest()
