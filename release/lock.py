"""What requirements/runtime.lock pins, for one Python on Linux."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_PIN: Final = re.compile(
    r"^(?P<pin>[A-Za-z0-9._-]+==[^\\\n]*?)\s*\\\n"
    r"(?P<hashes>(?:\s+--hash=sha256:[0-9a-f]{64}(?:\s*\\)?\n)+)",
    re.MULTILINE,
)
_HASH: Final = re.compile(r"sha256:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Pin:
    """One distribution in one version; sha256: of each file that it may be."""

    name: str
    version: str
    sha256: frozenset[str]


def pins(lock: Path, python: str, machine: str) -> Iterator[Pin]:
    """Those that count for `python` ("3.12") on Linux of this `machine` ("x86_64"), in the lock's order."""
    target = {
        "python_version": python,
        # No pin tells patch releases apart.
        "python_full_version": f"{python}.0",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": machine,
        "os_name": "posix",
    }
    for found in _PIN.finditer(lock.read_text()):
        requirement = Requirement(found["pin"])
        if requirement.marker is None or requirement.marker.evaluate(target):
            (specifier,) = requirement.specifier
            yield Pin(canonicalize_name(requirement.name), specifier.version, frozenset(_HASH.findall(found["hashes"])))
