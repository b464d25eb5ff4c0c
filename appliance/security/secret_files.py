"""Secrets as generation-numbered files: `secrets/<name>.<generation>`, 32 random bytes each, mode 0600.

New material is made with the newest generation; older ones stay readable until nothing refers to them.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from appliance.errors import StateError
from appliance.state_dir import read_private, write_atomic

SECRET_BYTES: Final = 32


class Generations:
    """All generations of one secret. Immutable; shows no secret when printed."""

    __slots__ = ("_secrets", "name")

    def __init__(self, name: str, secrets_by_generation: Mapping[int, bytes]) -> None:
        assert secrets_by_generation, "a secret has at least one generation"
        self.name = name
        self._secrets = dict(secrets_by_generation)

    @classmethod
    def open(cls, folder: Path, name: str, *, create: bool) -> Generations:
        """Reads `<folder>/<name>.*`; with `create`, makes generation 1 where there is none. Raises StateError."""
        pattern = re.compile(re.escape(name) + r"\.([1-9][0-9]{0,8})")
        found = {int(match[1]): path for path in folder.iterdir() if (match := pattern.fullmatch(path.name))}
        if not found:
            found[1] = folder / f"{name}.1"
            if create:
                write_atomic(found[1], secrets.token_bytes(SECRET_BYTES))
        return cls(name, {generation: _read(path) for generation, path in found.items()})

    @property
    def newest(self) -> int:
        """The generation for new material."""
        return max(self._secrets)

    def get(self, generation: int) -> bytes | None:
        """The secret of a generation, None where it is no longer (or not yet) here."""
        return self._secrets.get(generation)

    def passwords(self, purpose: str) -> tuple[bytes, ...]:
        """One password per generation for `purpose`, newest first; none of them leads back to the secret.

        A generation is a uniformly random key, so one keyed hash derives from it (no stretching is needed).
        """
        return tuple(
            hashlib.blake2b(purpose.encode(), key=self._secrets[generation], digest_size=32).hexdigest().encode()
            for generation in sorted(self._secrets, reverse=True)
        )

    def __repr__(self) -> str:
        return f"Generations({self.name!r}, {sorted(self._secrets)})"


def _read(path: Path) -> bytes:
    secret = read_private(path, SECRET_BYTES)
    if len(secret) != SECRET_BYTES:
        raise StateError(f"{path} holds {len(secret)} bytes instead of {SECRET_BYTES}; restore it from a backup")
    return secret
