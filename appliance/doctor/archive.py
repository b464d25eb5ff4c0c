"""Several texts as one archive, with the hash of each. Pure but for the file that it is written to."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Mapping
from typing import BinaryIO, Final

FILE_BYTES_MAX: Final = 8 * 2**20
MANIFEST: Final = "MANIFEST.sha256"


def manifest_of(files: Mapping[str, bytes]) -> bytes:
    """As `sha256sum` writes it; `sha256sum -c MANIFEST.sha256` checks it."""
    return "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(files.items())).encode()


def write_archive(out: BinaryIO, folder: str, files: Mapping[str, bytes], moment: float) -> None:
    """A .tar.gz of `folder` with the files and their manifest. moment: UTC seconds since 1970, of all of them.

    The same files give the same bytes. Of a file that is too large the end stays: what is newest in a log.
    """
    kept = {name: _cut(data) for name, data in files.items()}
    kept[MANIFEST] = manifest_of(kept)
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=out, mtime=int(moment)) as packed,
        tarfile.open(mode="w", fileobj=packed, format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, data in sorted(kept.items()):
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size, entry.mtime, entry.mode = len(data), int(moment), 0o600
            archive.addfile(entry, io.BytesIO(data))


def _cut(data: bytes) -> bytes:
    if len(data) <= FILE_BYTES_MAX:
        return data
    return f"[{len(data) - FILE_BYTES_MAX} bytes before this are left out]\n".encode() + data[-FILE_BYTES_MAX:]
