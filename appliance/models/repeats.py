"""Answers that are kept to be given once more, to exactly the same request, while no version of its alias can answer.

They are in memory alone, and end with the process.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Raw, Struct

from appliance.alias_spec import FallbackSpec
from appliance.models.stream import Origin
from appliance.types import FinishReason, Usage

# What an entry takes beside its text, about.
ENTRY_BYTES: Final = 500
# What does not change the answer, or changes only how it is sent.
_IDLE_FIELDS: Final = frozenset(
    {
        "stream",
        "stream_options",
        "user",
        "metadata",
        "priority",
        "deadline_seconds",
        "timeout",
        "keep_alive",
        "cache_salt",
    }
)


class Repeat(Struct, frozen=True, kw_only=True):
    """An answer, the model that made it, and which version of it that was. at: when, on the clock of its Repeats."""

    model: str
    text: str
    reason: FinishReason
    usage: Usage
    at: float
    origin: Origin | None = None

    @property
    def size_bytes(self) -> int:
        """In memory, about."""
        return ENTRY_BYTES + len(self.text.encode())


class Repeats:
    """Of all aliases, each within its own bound; the oldest go first. Belongs to the event loop."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._kept: dict[str, OrderedDict[bytes, Repeat]] = {}
        self._bytes: dict[str, int] = {}

    def find(self, alias: str, spec: FallbackSpec, key: bytes) -> Repeat | None:
        """The answer that was kept under `key`; None where there is none, or it is too old."""
        found = self._kept[alias].get(key) if alias in self._kept else None
        if found is None or not spec.repeats_mib or self._clock() - found.at > spec.repeats_seconds:
            return None
        return found

    def keep(
        self,
        alias: str,
        spec: FallbackSpec,
        key: bytes,
        model: str,
        text: str,
        reason: FinishReason,
        usage: Usage,
        origin: Origin | None = None,
    ) -> None:
        """Takes an answer, as far as the alias wants that."""
        kept = self._kept.setdefault(alias, OrderedDict())
        entry = Repeat(model=model, text=text, reason=reason, usage=usage, at=self._clock(), origin=origin)
        old = kept.pop(key, None)
        kept[key] = entry
        size = self._bytes.get(alias, 0) + entry.size_bytes - (old.size_bytes if old is not None else 0)
        while size > spec.repeats_mib * 2**20 and kept:
            size -= kept.popitem(last=False)[1].size_bytes
        self._bytes[alias] = size


def repeat_key(principal: str, endpoint: str, fields: Mapping[str, Raw]) -> bytes:
    """The same for the same request of the same principal alone. fields: of the body, as the client wrote them."""
    digest = hashlib.sha256()
    for part in (principal, endpoint):
        digest.update(f"{len(part)}:{part}".encode())
    for name in sorted(fields.keys() - _IDLE_FIELDS):
        value = bytes(fields[name])
        digest.update(f"{len(name)}:{name}:{len(value)}:".encode() + value)
    return digest.digest()
