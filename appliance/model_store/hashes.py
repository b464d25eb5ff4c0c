"""The list of a model's hashes, in the form of `sha256sum`: what is signed, and what other tools can check. Pure.

One line a file, sorted by name: 64 hex digits, two spaces, the name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from appliance.errors import ChangeRefused
from appliance.gguf.split import PARTS_MAX
from appliance.model_store.names import NAME

SUMS: Final = "SHA256SUMS"
SIGNATURE: Final = "SHA256SUMS.sig"
SUMS_BYTES_MAX: Final = PARTS_MAX * 200
SHA256: Final = re.compile("[0-9a-f]{64}")
_LINE: Final = re.compile(rf"(?P<sha256>[0-9a-fA-F]{{64}})  ?\*?(?P<name>{NAME})")


def sums_text(hashes: Mapping[str, str]) -> bytes:
    """hashes: by file name, hex."""
    return "".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes)).encode()


def parse_sums(text: bytes) -> dict[str, str]:
    """Raises ChangeRefused; a name with a folder in it is none."""
    hashes: dict[str, str] = {}
    for number, line in enumerate(text.decode(errors="replace").splitlines(), start=1):
        found = _LINE.fullmatch(line)
        if found is None or found["name"] in hashes:
            raise ChangeRefused("invalid", f"{SUMS}: line {number} is no SHA-256 and file name, or is there twice")
        hashes[found["name"]] = found["sha256"].lower()
    if not 1 <= len(hashes) <= PARTS_MAX:
        raise ChangeRefused("invalid", f"{SUMS} names {len(hashes)} files")
    return hashes


def parse_sha256(text: str) -> str:
    """Hex digits in either case. Raises ChangeRefused."""
    if not SHA256.fullmatch(text.lower()):
        raise ChangeRefused("invalid", "a SHA-256 has 64 hex digits")
    return text.lower()
