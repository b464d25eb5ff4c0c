"""Backups: one file, encrypted to the recovery key, of everything that a new host needs.

    archive_stream( tar( state/<entry>/...   extra/<name>   MANIFEST.json ) )

`extra` is material that its owner exported without what binds it to this host (the keyring's data keys, for one): the
recovery key is then its only protection, and a restore wraps it anew. Extra material and the plain tar never touch a
disk. The manifest comes last, with the SHA-256 of every member as it was read.

A backup of a running appliance is a copy of each file at one moment, not of all files at the same one: files that
change by `write_atomic` are old or new as a whole, and files that grow are cut where they were when their turn came.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import stat
import tarfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Final, Literal, cast

import msgspec
from msgspec import Meta, Struct

from appliance.errors import StateError
from appliance.keyring.archive_stream import (
    CHUNK_BYTES,
    DecryptingReader,
    EncryptingWriter,
    Sink,
    Source,
    new_file,
    reading,
)
from appliance.keyring.recovery import RecoveryPublicKey, RecoverySecretKey
from appliance.safe_text import safe_text
from appliance.state_dir import sync_folder, temporary_sibling

MEMBERS_MAX: Final = 100_000
EXTRA_BYTES_MAX: Final = 16 * 2**20
NAME_CHARS_MAX: Final = 1024
DEPTH_MAX: Final = 32
_MANIFEST: Final = "MANIFEST.json"
_MANIFEST_BYTES_MAX: Final = 256 * 2**20
_STATE: Final = "state/"
_EXTRA: Final = "extra/"
_LEFT_BEHIND: Final = re.compile(r"\..*\.tmp")


class Member(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file of a backup, as the manifest has it."""

    name: Annotated[str, Meta(max_length=NAME_CHARS_MAX)]
    size: Annotated[int, Meta(ge=0)]
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class Manifest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything in a backup: files by name, and folders, which may be empty."""

    version: Literal[1] = 1
    members: tuple[Member, ...]
    folders: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BackupSummary:
    """members: files in it. size: bytes of the archive. sha256: of the archive, for the audit log: who has the public
    key can make an archive that opens, so the digest is what says that it is ours."""

    members: int
    size: int
    sha256: str


def write_backup(
    entries: Mapping[str, Path],
    extra: Mapping[str, bytes],
    recovery_public: RecoveryPublicKey,
    target: Path,
    *,
    skip: Collection[str] = (),
) -> BackupSummary:
    """Writes a new file `target`. On StateError there is none.

    entries: name in the archive (`secrets`) -> folder or file; they become <into>/<name>. skip: names of files and
    folders to leave out (`secrets/kek.1`). Left out as well is what an interrupted write left behind.
    """
    with new_file(target) as file:
        digest = _DigestWriter(file)
        stream = EncryptingWriter(recovery_public, digest)
        with _tar(stream, "w|") as tar:
            packer = _Packer(tar)
            for name, path in entries.items():
                packer.add_tree(_STATE + name, path, frozenset(_STATE + each for each in skip))
            for name, data in extra.items():
                packer.add_extra(_EXTRA + name, data)
            packer.add_manifest()
        stream.finish()
    return BackupSummary(members=len(packer.members), size=digest.size, sha256=digest.hash.hexdigest())


Prepare = Callable[[Path, Mapping[str, bytes]], None]


def restore_backup(
    archive: Path, recovery_secret: RecoverySecretKey, into: Path, prepare: Prepare | None = None
) -> Manifest:
    """Makes the folder `into`, which must be missing or empty, from an archive. On StateError it is as it was.

    All is unpacked beside it, checked, and then gets its name in one rename; `into` can therefore be no mount point.
    Files are 0600 and folders 0700. prepare(folder, extra): the last step before the rename; puts the extra material
    into its place below `folder`, durably.
    """
    if into.is_symlink() or (into.exists() and (not into.is_dir() or any(into.iterdir()))):
        raise StateError(f"{into} is not empty; restore into a folder that does not exist yet, or move this one away")
    staged = temporary_sibling(into)
    try:
        staged.mkdir(mode=0o700)
        with reading(archive) as file:
            unpacker = _Unpacker(staged, str(archive))
            manifest = unpacker.unpack(DecryptingReader(recovery_secret, file, str(archive)))
        if prepare is not None:
            prepare(staged, unpacker.extra)
        for folder, _, _ in os.walk(staged, topdown=False):
            sync_folder(Path(folder))
        staged.rename(into)
        sync_folder(into.parent)
    except OSError as error:
        raise StateError(f"{into}: cannot be restored: {error.strerror or error}") from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return manifest


class _Packer:
    """Adds members to a tar stream and notes what it added."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self.members: list[Member] = []
        self._folders: list[str] = []

    def add_tree(self, name: str, path: Path, skip: Collection[str]) -> None:
        """Links, devices and the like are refused: they are no state of ours."""
        if name in skip:
            return
        if not _is_safe(name):
            raise StateError(f"{safe_text(str(path))} has a name that no backup takes; rename it or leave it out")
        try:
            mode = path.lstat().st_mode
            children = sorted(path.iterdir()) if stat.S_ISDIR(mode) else []
        except OSError as error:
            raise _unreadable(path, error) from error
        if stat.S_ISREG(mode):
            self._add_file(name, path)
            return
        if not stat.S_ISDIR(mode):
            raise StateError(f"{path} is neither a file nor a folder; remove it or leave it out, then try again")
        if len(self._folders) >= MEMBERS_MAX:
            raise StateError(f"more than {MEMBERS_MAX} folders; leave some out")
        self._tar.addfile(_info(name, 0, tarfile.DIRTYPE))
        self._folders.append(name)
        for child in children:
            if not _LEFT_BEHIND.fullmatch(child.name):
                self.add_tree(f"{name}/{child.name}", child, skip)

    def add_extra(self, name: str, data: bytes) -> None:
        assert _is_safe(name), "the caller names what it adds"
        if len(data) > EXTRA_BYTES_MAX:
            raise StateError(f"{name} has {len(data)} bytes; a backup takes at most {EXTRA_BYTES_MAX}")
        self._add(name, len(data), io.BytesIO(data), name)

    def add_manifest(self) -> None:
        data = msgspec.json.encode(Manifest(members=tuple(self.members), folders=tuple(self._folders)))
        self._tar.addfile(_info(_MANIFEST, len(data)), io.BytesIO(data))

    def _add_file(self, name: str, path: Path) -> None:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise _unreadable(path, error) from error
        with os.fdopen(fd, "rb") as file:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise StateError(f"{path} is no regular file any more; try again")
            self._add(name, status.st_size, file, path)

    def _add(self, name: str, size: int, source: Source, path: Path | str) -> None:
        if len(self.members) >= MEMBERS_MAX:
            raise StateError(f"more than {MEMBERS_MAX} files; leave some out")
        hashing = _DigestReader(source, size, path)
        self._tar.addfile(_info(name, size), cast("IO[bytes]", hashing))
        self.members.append(Member(name=name, size=size, sha256=hashing.hash.hexdigest()))


class _Unpacker:
    """Unpacks a tar stream below `root`, a new folder, and checks it against its manifest."""

    def __init__(self, root: Path, said: str) -> None:
        self._root = root
        self._said = said
        self._members: dict[str, Member] = {}
        self._folders: dict[str, None] = {}
        self._manifest: bytes | None = None
        self.extra: dict[str, bytes] = {}

    def unpack(self, stream: Source) -> Manifest:
        try:
            with _tar(stream, "r|") as tar:
                for info in tar:
                    self._take(tar, info)
        except (tarfile.TarError, EOFError, ValueError) as error:
            raise self._refused(f"its contents are damaged ({error})") from error
        while stream.read(CHUNK_BYTES):
            pass  # Only the end of the stream proves that all of it is there.
        return self._check()

    def _take(self, tar: tarfile.TarFile, info: tarfile.TarInfo) -> None:
        name = info.name
        if self._manifest is not None:
            raise self._refused("something comes after its manifest")
        if not _is_safe(name):
            raise self._refused(f"the name {safe_text(name)!r} is not allowed")
        if name in self._members or name in self._folders:
            raise self._refused(f"{safe_text(name)!r} is there twice")
        if len(self._members) + len(self._folders) > 2 * MEMBERS_MAX:
            raise self._refused(f"there are more than {2 * MEMBERS_MAX} files and folders")
        if info.type == tarfile.DIRTYPE and name.startswith(_STATE):
            self._folders[name] = None
            _make_folders(self._root, name.removeprefix(_STATE))
            return
        if info.type != tarfile.REGTYPE or info.sparse is not None:
            raise self._refused(f"{safe_text(name)!r} is neither a file nor a folder")
        content = tar.extractfile(info)
        assert content is not None, "a regular file has content"
        if name == _MANIFEST:
            self._manifest = self._read(content, info, _MANIFEST_BYTES_MAX)
        elif name.startswith(_EXTRA):
            data = self._read(content, info, EXTRA_BYTES_MAX)
            self.extra[name.removeprefix(_EXTRA)] = data
            self._members[name] = Member(name=name, size=len(data), sha256=hashlib.sha256(data).hexdigest())
        elif name.startswith(_STATE):
            self._members[name] = self._write(content, name)
        else:
            raise self._refused(f"the name {safe_text(name)!r} is not allowed")

    def _read(self, content: IO[bytes], info: tarfile.TarInfo, bytes_max: int) -> bytes:
        if info.size > bytes_max:
            raise self._refused(f"{safe_text(info.name)!r} is too large")
        return content.read(info.size)

    def _write(self, content: IO[bytes], name: str) -> Member:
        *folders, _ = inner = name.removeprefix(_STATE).split("/")
        _make_folders(self._root, "/".join(folders))
        path = self._root.joinpath(*inner)
        digest = hashlib.sha256()
        size = 0
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            while piece := content.read(CHUNK_BYTES):
                file.write(piece)
                digest.update(piece)
                size += len(piece)
            file.flush()
            os.fsync(fd)
        return Member(name=name, size=size, sha256=digest.hexdigest())

    def _check(self) -> Manifest:
        if self._manifest is None:
            raise self._refused("it has no manifest")
        try:
            manifest = msgspec.json.decode(self._manifest, type=Manifest)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self._refused(f"its manifest is damaged ({error})") from error
        if manifest.members != tuple(self._members.values()) or manifest.folders != tuple(self._folders):
            raise self._refused("its files are not those of its manifest")
        return manifest

    def _refused(self, why: str) -> StateError:
        return StateError(f"{self._said}: {why}; nothing was restored; take another copy or an older backup")


class _DigestWriter:
    """Passes on what is written, and knows its length and SHA-256."""

    def __init__(self, target: Sink) -> None:
        self._target = target
        self.hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self.hash.update(data)
        self.size += len(data)
        return self._target.write(data)


class _DigestReader:
    """The first `size` bytes of a source, and their SHA-256. Raises StateError when it ends before."""

    def __init__(self, source: Source, size: int, path: Path | str) -> None:
        self._source = source
        self._left = size
        self._path = path
        self.hash = hashlib.sha256()

    def read(self, size: int) -> bytes:
        wanted = min(size, self._left)
        try:
            data = self._source.read(wanted)
        except OSError as error:
            raise _unreadable(self._path, error) from error
        if len(data) < wanted:
            raise StateError(f"{self._path} became shorter while it was copied; try again")
        self._left -= wanted
        self.hash.update(data)
        return data


def _tar(stream: EncryptingWriter | Source, mode: Literal["r|", "w|"]) -> tarfile.TarFile:
    """A tar stream asks no more of its file than `read` or `write`."""
    return tarfile.open(
        fileobj=cast("IO[bytes]", stream), mode=mode, bufsize=CHUNK_BYTES, format=tarfile.PAX_FORMAT, encoding="utf-8"
    )


def _info(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size
    info.type = kind
    info.mode = 0o700 if kind == tarfile.DIRTYPE else 0o600
    return info


def _is_safe(name: str) -> bool:
    """Whether a name stays below its root and says on a terminal what it is."""
    parts = name.split("/")
    return (
        len(name) <= NAME_CHARS_MAX
        and len(parts) <= DEPTH_MAX
        and name.isprintable()
        and "\\" not in name
        and all(part not in ("", ".", "..") for part in parts)
    )


def _make_folders(root: Path, inner: str) -> None:
    folder = root
    for part in inner.split("/"):
        folder = folder / part
        folder.mkdir(mode=0o700, exist_ok=True)


def _unreadable(path: Path | str, error: OSError) -> StateError:
    return StateError(f"{path}: cannot be read for the backup: {error.strerror or error}; try again")
