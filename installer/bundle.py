"""A bundle on a stick: nothing of it is unpacked before all of it is known to be what was signed."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from installer.errors import Refused
from installer.manifest import BYTES_MAX, NAME, SIGNATURE, BundledFile, Manifest, parse
from installer.signature import signer

_SIGNATURE_BYTES: Final = 64
_CHUNK_BYTES: Final = 2**20


class _Measured(io.BufferedReader):
    """What a header says of a long name is read at once, before anybody knows who wrote it: so much and no more."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= BYTES_MAX:
            raise tarfile.ReadError(f"{size} bytes at once")
        return super().read(size)


@dataclass(frozen=True, slots=True)
class Bundle:
    """One whose every byte was checked against a signed manifest. signed_by: the trusted key's name."""

    path: Path
    manifest: Manifest
    raw_manifest: bytes
    signed_by: str


def open_bundle(path: Path, trusted: Mapping[str, bytes]) -> Bundle:
    """Checks signature, set of files, sizes and hashes; reads all of it once. Raises Refused, which names the file."""
    with archive(path) as tar:
        first, second = _next(tar, NAME), _next(tar, SIGNATURE)
        raw, signature = content(tar, first, BYTES_MAX), content(tar, second, _SIGNATURE_BYTES)
        signed_by = signer(raw, signature, trusted)
        manifest = parse(raw)
        for _ in _checked(tar, manifest, lambda _: None):
            pass
    return Bundle(path, manifest, raw, signed_by)


def unpack(bundle: Bundle, to: Path) -> None:
    """Writes its files below the new folder `to`, durably; each is hashed again on the way. Raises Refused.

    What is written has been checked in this reading too: the stick may be another one by now.
    """
    to.mkdir(mode=0o755)
    with archive(bundle.path) as tar:
        if content(tar, _next(tar, NAME), BYTES_MAX) != bundle.raw_manifest:
            raise Refused(f"{bundle.path} has changed since it was checked")
        _next(tar, SIGNATURE)
        for file, written in _checked(tar, bundle.manifest, lambda file: _new(to, file)):
            assert written is not None
            os.fchmod(written.fileno(), file.mode)
            written.flush()
            os.fsync(written.fileno())
            written.close()
    (to / NAME).write_bytes(bundle.raw_manifest)


def _checked(
    tar: tarfile.TarFile, manifest: Manifest, target: Callable[[BundledFile], BinaryIO | None]
) -> Iterator[tuple[BundledFile, BinaryIO | None]]:
    """Each file of the archive once it is proven, with where it was written to.

    The archive has what the manifest lists, in its order, and nothing else: so no name can be there twice.
    """
    for file in manifest.files:
        member = _next(tar, file.path)
        if member.size != file.size:
            raise Refused(f"{file.path} in the bundle has {member.size} bytes, not {file.size}")
        written = target(file)
        digest = hashlib.sha256()
        source = tar.extractfile(member)
        assert source is not None
        while chunk := source.read(_CHUNK_BYTES):
            digest.update(chunk)
            if written is not None:
                written.write(chunk)
        if digest.hexdigest() != file.sha256:
            raise Refused(f"{file.path} in the bundle is not what was signed; copy the bundle again")
        yield file, written
    if (more := tar.next()) is not None:
        raise Refused(f"{more.name!r} in the bundle is not in its manifest")


def _next(tar: tarfile.TarFile, name: str) -> tarfile.TarInfo:
    member = tar.next()
    if member is None:
        raise Refused(f"{name} is missing in the bundle")
    if member.name != name or member.type != tarfile.REGTYPE or member.pax_headers or member.sparse is not None:
        raise Refused(f"the bundle has {member.name!r} where {name} should be, as a plain file")
    return member


def content(tar: tarfile.TarFile, member: tarfile.TarInfo, bytes_max: int) -> bytes:
    """Raises Refused where there are more."""
    if member.size > bytes_max:
        raise Refused(f"{member.name} in the bundle is larger than {bytes_max} bytes")
    source = tar.extractfile(member)
    assert source is not None
    return source.read()


def _new(to: Path, file: BundledFile) -> BinaryIO:
    path = to / file.path
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    return path.open("xb")


@contextmanager
def archive(path: Path) -> Iterator[tarfile.TarFile]:
    """Raises Refused where it cannot be read, also while it is."""
    try:
        # No compression: wheels are compressed already, and nothing can grow out of proportion.
        with _Measured(io.FileIO(path)) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            yield tar
    except (tarfile.TarError, EOFError) as error:
        raise Refused(f"{path} is no whole bundle ({error}); copy it again") from None
    except OSError as error:
        raise Refused(f"{path} cannot be read or unpacked: {error.strerror or error}") from None
