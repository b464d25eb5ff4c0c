"""A folder becomes a signed bundle: the same folder, facts and key give the same bytes."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from installer.manifest import FORMAT, NAME, PRODUCT, SIGNATURE, parse

# Nothing in a release depends on when it was made.
_TIME: Final = 0


def seal(folder: Path, facts: Mapping[str, Any], key: Ed25519PrivateKey, bundle: Path) -> None:
    """Writes `bundle` with all files of `folder`. facts: what the manifest says besides the files."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = [_listed(path, folder) for path in paths]
    raw = json.dumps({"product": PRODUCT, "format": FORMAT, **facts, "files": files}, indent=1, sort_keys=True).encode()
    # A bundle that its own installer would refuse is not made.
    parse(raw)
    partial = bundle.with_name(bundle.name + ".partial")
    with tarfile.open(partial, "w", format=tarfile.GNU_FORMAT) as tar:
        _add(tar, NAME, raw)
        _add(tar, SIGNATURE, key.sign(raw))
        for path, file in zip(paths, files, strict=True):
            _add(tar, file["path"], path.read_bytes(), int(file["mode"], 8))
    partial.replace(bundle)


def _listed(path: Path, folder: Path) -> dict[str, Any]:
    content = path.read_bytes()
    return {
        "path": path.relative_to(folder).as_posix(),
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "mode": "0755" if path.stat().st_mode & 0o100 else "0644",
    }


def _add(tar: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = len(content), mode, _TIME
    tar.addfile(member, io.BytesIO(content))
