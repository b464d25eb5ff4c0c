"""The folder of imported models: one folder a model, with its GGUF files, its list of hashes and its manifest.

    <folder>/NAME                 a model: manifest.json is written last, and the folder gets its name after that
             .NAME.<hex>.tmp      an import under way; the next daemon removes what a crash left of one
             .quarantine/NAME     what took a worker down, with reason.json; never loaded

Whoever writes here holds the state directory's lock. Methods block; those of one model are not called side by side.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import asdict, replace

from appliance.errors import ChangeRefused, LoadError, StateError
from appliance.gguf.facts import ModelFacts
from appliance.gguf.header import GgufHeader
from appliance.model_store.copying import Progress, SourceError, hash_file
from appliance.model_store.hashes import SIGNATURE, SUMS, sums_text
from appliance.model_store.manifest import BYTES_MAX, FILE, Identity, Manifest, StoredFile, decode, encode
from appliance.model_store.names import check_name, model_name
from appliance.model_store.safe_open import open_place, reopen
from appliance.model_store.signing import Signer
from appliance.model_store.source import Source, SourceFile, open_source
from appliance.safe_text import safe_text
from appliance.state_dir import read_private, sync_folder, temporary_sibling, write_atomic

QUARANTINE: Final = ".quarantine"
REASON: Final = "reason.json"
# The group of the models' folder is that of the workers where they are other users: systemd/tmpfiles.d. Elsewhere
# nobody gets as far as the folder.
FOLDER_MODE: Final = 0o750
FILE_MODE: Final = 0o640
WRITTEN_MODE: Final = 0o660
REASON_BYTES_MAX: Final = 64 * 1024
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Quarantined(Struct, frozen=True, kw_only=True):
    """A model that took its worker down."""

    name: str
    reason: str
    imported_from: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Staged:
    """What is not a model yet, below `folder`. files: with their hashes. facts, header: of their own headers."""

    name: str
    folder: Path
    files: tuple[StoredFile, ...]
    facts: ModelFacts
    header: GgufHeader

    @property
    def first(self) -> Path:
        """What an engine is told to load."""
        return self.folder / self.files[0].name

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(file.identity.bytes for file in self.files)


class ModelStore:
    """Creating the object touches nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    # ── looking ───────────────────────────────────────────────────────────────────────────────────────────────────

    def names(self) -> list[str]:
        """Of all models, sorted."""
        return sorted(path.parent.name for path in self.folder.glob(f"[!.]*/{FILE}"))

    def manifest(self, name: str) -> Manifest:
        """Raises ChangeRefused where there is no such model, StateError where its manifest is damaged."""
        path = self.folder / check_name(name, "a model's name") / FILE
        if not path.exists():
            raise ChangeRefused("not_found", f"no model {name!r} was imported; `appliance models list` has all of them")
        return decode(read_private(path, BYTES_MAX), str(path))

    def path(self, manifest: Manifest) -> Path:
        """What models.yaml names to have it served."""
        return self.folder / manifest.name / manifest.files[0].name

    def view(self, manifest: Manifest) -> dict[str, object]:
        """For a client. path: what models.yaml names."""
        return {**asdict(manifest), "bytes": manifest.bytes, "path": str(self.path(manifest))}

    def quantize_command(self, path: Path) -> str | None:
        """What an operator enters to have a smaller model made of a file; the type's name goes behind it."""
        real, folder = Path(os.path.realpath(path)), Path(os.path.realpath(self.folder))
        if real.is_relative_to(folder):
            return f"appliance models quantize {real.relative_to(folder).parts[0]} --to"
        try:
            name = check_name(model_name(real.name), "a model's name")
        except ChangeRefused:
            return None
        taken = shlex.quote(safe_text(str(real)))
        return f"appliance models import {taken} && appliance models quantize {name} --to"

    def header(self, manifest: Manifest) -> tuple[GgufHeader, ModelFacts]:
        """The files' headers as one, and what it says now. Raises ChangeRefused."""
        with open_source(self.path(manifest).resolve()) as source:
            return source.header, source.facts

    def quarantined(self) -> list[Quarantined]:
        """What took workers down, by name."""
        found = []
        for path in sorted((self.folder / QUARANTINE).glob(f"*/{REASON}")):
            with contextlib.suppress(StateError, msgspec.MsgspecError):
                found.append(msgspec.json.decode(read_private(path, REASON_BYTES_MAX), type=Quarantined))
        return found

    def check_unchanged(self, path: Path) -> None:
        """Whether a model's file may be loaded: outside of the store always, inside it where nothing has touched it.

        A look at each file's status, no reading. Raises LoadError with what to do.
        """
        real, folder = Path(os.path.realpath(path)), Path(os.path.realpath(self.folder))
        if not real.is_relative_to(folder):
            return
        name = "".join(real.relative_to(folder).parts[:1])
        if name == QUARANTINE:
            raise LoadError(f"{path.name} is in quarantine: it took a worker down when it was tried")
        try:
            manifest = self.manifest(name)
        except (ChangeRefused, StateError):
            raise LoadError(
                f"{path.name} lies among the imported models, but was not imported; move it out of {folder} and "
                "import it from there with `appliance models import`"
            ) from None
        if real.name not in manifest.hashes or real.parent != folder / name:
            raise LoadError(f"{path.name} is no file of the imported model {name}")
        if manifest.fault is not None:
            raise LoadError(f"{path.name} may not be loaded: {manifest.fault}; {_mend(name)}")
        for file in manifest.files:
            if (found := _identity(folder / name / file.name)) != file.identity:
                what = "is gone" if found is None else "was changed since it was imported or verified"
                raise LoadError(f"{file.name} {what}; {_mend(name)}")

    # ── importing ─────────────────────────────────────────────────────────────────────────────────────────────────

    def check_room(self, name: str, size_bytes: int, spare_bytes: int) -> None:
        """Whether a model of this size fits under this name, with `spare_bytes` left. Raises ChangeRefused."""
        if (self.folder / check_name(name, "a model's name")).exists():
            raise ChangeRefused(
                "conflict",
                f"a model {name!r} is there already; give the new one another name with --name, or "
                "remove that one first",
            )
        status = os.statvfs(self.folder)
        left = status.f_bavail * status.f_frsize - size_bytes
        if left < spare_bytes:
            raise ChangeRefused(
                "conflict",
                f"it takes {_gib(size_bytes)}, and {self.folder} has {_gib(left + size_bytes)} left, of which "
                f"{_gib(spare_bytes)} must stay free; make room, for example with `appliance models remove`",
            )

    def stage(self, source: Source, name: str, progress: Progress) -> Staged:
        """Copies a model and reads its headers again, from the copy. Nothing stays where it raises.

        Raises ChangeRefused, and what `progress` raises.
        """
        folder = temporary_sibling(self.folder / name)
        try:
            folder.mkdir(mode=FOLDER_MODE)
            files = copy_files(source, folder, progress)
            sync_folder(folder)
            with open_source((folder / files[0].name).resolve()) as copy:
                return Staged(name, folder, files, copy.facts, copy.header)
        except OSError as error:
            self.discard(folder)
            raise ChangeRefused("conflict", f"{self.folder} cannot be written: {error.strerror}") from error
        except BaseException:
            self.discard(folder)
            raise

    def begin(self, name: str, file: str) -> Path:
        """A folder that is not a model yet, with an empty file in it for a worker to write. Raises ChangeRefused."""
        folder = temporary_sibling(self.folder / name)
        try:
            folder.mkdir(mode=FOLDER_MODE)
            os.close(os.open(folder / file, _NEW_FILE, WRITTEN_MODE))
        except OSError as error:
            self.discard(folder)
            raise ChangeRefused("conflict", f"{self.folder} cannot be written: {error.strerror}") from error
        return folder

    def take(self, folder: Path, name: str, file: str, progress: Progress) -> Staged:
        """What a worker has written to the folder that `begin` made, hashed and durable.

        It believes the worker nothing. Raises ChangeRefused, OSError, and what `progress` raises.
        """
        if extra := {entry.name for entry in folder.iterdir()} - {file}:
            raise ChangeRefused(
                "invalid", f"its worker also wrote {safe_text(min(extra))!r}, which it was not asked for"
            )
        with open_source(folder.resolve() / file) as source:
            (made,) = source.files
            os.fchmod(made.fd, FILE_MODE)
            try:
                sha256 = hash_file(made.fd, progress)
            except SourceError as error:
                raise ChangeRefused("conflict", f"{file} {error}") from None
            os.fsync(made.fd)
            sync_folder(folder)
            stored = StoredFile(name=file, sha256=sha256, identity=Identity.of(os.fstat(made.fd)))
            return Staged(name, folder, (stored,), source.facts, source.header)

    def check_left(self, spare_bytes: int) -> None:
        """Whether there is still so much room. Raises ChangeRefused."""
        status = os.statvfs(self.folder)
        if (left := status.f_bavail * status.f_frsize) < spare_bytes:
            raise ChangeRefused(
                "conflict",
                f"{self.folder} has {_gib(left)} left, and {_gib(spare_bytes)} must stay free; nothing of it is left; "
                "make room, for example with `appliance models remove`",
            )

    def place(self, staged: Staged, manifest: Manifest, signature: bytes | None) -> None:
        """Makes a model of what was staged, as a whole and durably. Raises ChangeRefused or StateError."""
        write_atomic(staged.folder / SUMS, sums_text(manifest.hashes))
        if signature is not None:
            write_atomic(staged.folder / SIGNATURE, signature)
        write_atomic(staged.folder / FILE, encode(manifest))
        target = self.folder / staged.name
        try:
            staged.folder.rename(target)
            sync_folder(self.folder)
        except OSError as error:
            raise ChangeRefused("conflict", f"{target} cannot be made: {error.strerror}") from error

    def quarantine(self, staged: Staged, reason: str, source: str, now: datetime) -> Path:
        """Puts what was staged where nothing loads it; what was there under its name goes. Raises OSError."""
        target = self.folder / QUARANTINE / staged.name
        target.parent.mkdir(mode=0o700, exist_ok=True)
        found = Quarantined(name=staged.name, reason=reason, imported_from=source, since=now)
        write_atomic(staged.folder / REASON, msgspec.json.encode(found))
        self.discard(target)
        staged.folder.rename(target)
        sync_folder(target.parent)
        return target

    def discard(self, folder: Path) -> None:
        """Removes what was staged, where it is still there."""
        shutil.rmtree(folder, ignore_errors=True)

    # ── afterwards ────────────────────────────────────────────────────────────────────────────────────────────────

    def verify(self, name: str, signers: Iterable[Signer], progress: Progress, now: Callable[[], datetime]) -> Manifest:
        """Hashes every file again. The manifest that counts from now on, with its fault where something is not right.

        Raises ChangeRefused, StateError, and what `progress` raises.
        """
        manifest = self.manifest(name)
        folder, fault, files = self.folder / name, None, []
        for file in manifest.files:
            try:
                found = _hashed(folder / file.name, file.name, progress)
            except ChangeRefused as error:
                fault, found = str(error), file
            if found.sha256 != file.sha256:
                fault, found = f"{file.name} has the SHA-256 {found.sha256}, not {file.sha256} as it was imported", file
            files.append(found)
        fault = fault or self._signature_fault(manifest, signers)
        if fault is None:
            manifest = replace(manifest, files=tuple(files), fault=None, verified=now())
        else:
            manifest = replace(manifest, fault=fault)
        write_atomic(folder / FILE, encode(manifest))
        return manifest

    def check_there(self, name: str, *, quarantined: bool) -> None:
        """Raises ChangeRefused where there is nothing of this name to remove."""
        folder = self.folder / (QUARANTINE if quarantined else "") / check_name(name, "a model's name")
        if not folder.is_dir():
            where = "in quarantine" if quarantined else "among the imported ones"
            raise ChangeRefused(
                "not_found", f"there is no model {name!r} {where}; `appliance models list` has all of them"
            )

    def remove(self, name: str) -> None:
        """Takes a model away; from the first moment nothing can load it. Raises StateError."""
        self._remove(self.folder / check_name(name, "a model's name"))

    def remove_quarantined(self, name: str) -> None:
        """The same for one in quarantine."""
        self._remove(self.folder / QUARANTINE / check_name(name, "a model's name"))

    def _remove(self, folder: Path) -> None:
        going = temporary_sibling(self.folder / folder.name)
        try:
            folder.rename(going)
            sync_folder(self.folder)
            shutil.rmtree(going)
        except OSError as error:
            raise StateError(f"{folder} cannot be removed: {error.strerror}") from error

    def _signature_fault(self, manifest: Manifest, signers: Iterable[Signer]) -> str | None:
        """None also where its signer's key does not count any more: that says nothing of the files."""
        if manifest.signer is None:
            return None
        path = self.folder / manifest.name / SIGNATURE
        try:
            signature = read_private(path, 1024)
        except StateError as error:
            return str(error)
        keys = [signer for signer in signers if signer.id.fingerprint == manifest.signer.fingerprint]
        if any(not key.signed(sums_text(manifest.hashes), signature) for key in keys):
            return f"its hashes are not those that {manifest.signer.name} signed"
        return None


def copy_files(source: Source, folder: Path, progress: Progress, mode: int = FILE_MODE) -> tuple[StoredFile, ...]:
    """Copies a model's files to a folder where none of them is.

    Raises ChangeRefused where the source fails, OSError where the target does.
    """
    return tuple(_copy(file, folder, progress, mode) for file in source.files)


def recheck(staged: Staged) -> None:
    """Raises LoadError where a staged file is not the one that was hashed: nobody but this process writes there."""
    for file in staged.files:
        if _identity(staged.folder / file.name) != file.identity:
            raise LoadError(f"{file.name} changed while it was tried; import it again")


def _copy(file: SourceFile, folder: Path, progress: Progress, mode: int) -> StoredFile:
    target = os.open(folder / file.name, _NEW_FILE, mode)
    try:
        sha256 = hash_file(file.fd, progress, target)
        return StoredFile(name=file.name, sha256=sha256, identity=Identity.of(os.fstat(target)))
    except SourceError as error:
        raise ChangeRefused("conflict", f"{file.name} {error}") from None
    finally:
        os.close(target)


def _hashed(path: Path, name: str, progress: Progress) -> StoredFile:
    with open_place(path.resolve().parent / name) as (place, status):
        fd = reopen(place, status, path)
        try:
            return StoredFile(name=name, sha256=hash_file(fd, progress), identity=Identity.of(status))
        except SourceError as error:
            raise ChangeRefused("conflict", f"{name} {error}") from None
        finally:
            os.close(fd)


def _identity(path: Path) -> Identity | None:
    try:
        return Identity.of(path.lstat())
    except OSError:
        return None


def _mend(name: str) -> str:
    return f"`appliance models verify {name}` says whether it is whole; else import it again"


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{max(0, count) / 2**20:.0f} MiB"
