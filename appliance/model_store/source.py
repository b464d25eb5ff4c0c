"""A model where somebody put it: which files it is, held open, with its header read."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.errors import ChangeRefused, GgufError
from appliance.gguf.facts import ModelFacts, facts_of
from appliance.gguf.header import GgufHeader, read_header
from appliance.gguf.split import SUFFIX, join_parts, part_names
from appliance.model_store.hashes import SIGNATURE, SUMS, SUMS_BYTES_MAX, parse_sums
from appliance.model_store.names import check_name, model_name, split_name
from appliance.model_store.safe_open import open_place, open_regular, reopen, unreadable
from appliance.model_store.signing import SIGNATURE_BYTES

ENTRIES_MAX: Final = 4096


@dataclass(frozen=True, slots=True)
class SourceFile:
    """fd: open for reading, of `bytes` when it was opened."""

    name: str
    fd: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Source:
    """path: as it was named. files: in order of their parts. header: of all of them, and facts: what it says.

    sums: the SHA256SUMS of a folder that has one, as it is. signature: of `sums`.
    """

    path: Path
    files: tuple[SourceFile, ...]
    header: GgufHeader
    facts: ModelFacts
    sums: bytes | None = None
    signature: bytes | None = None

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(file.bytes for file in self.files)

    @property
    def name(self) -> str:
        """What it is called by default."""
        return model_name(self.files[0].name)


@contextlib.contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """path: a GGUF file, any part of a split one, or a folder with one model. Absolute, without links.

    Blocks for up to a second. Raises ChangeRefused with what is wrong with it.
    """
    with contextlib.ExitStack() as stack:
        place, status = stack.enter_context(open_place(path))
        if stat.S_ISDIR(status.st_mode):
            source = _of_folder(path, place, stack)
        else:
            check_name(path.name, "a model's file")
            split = split_name(path.name)
            if split is None:
                fd = reopen(place, status, path)
                stack.callback(os.close, fd)
                source = _checked(path, (_opened(path.name, fd),))
            else:
                folder, _ = stack.enter_context(open_place(path.parent))
                source = _checked(path, _all_open(path.parent, folder, part_names(split), stack))
        yield source


def _of_folder(path: Path, place: int, stack: contextlib.ExitStack) -> Source:
    """A folder's one model, and its list of hashes where it has one."""
    try:
        folder = os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, folder)
        entries = set(os.listdir(folder))  # noqa: PTH208
    except OSError as error:
        raise unreadable(path, error) from None
    if len(entries) > ENTRIES_MAX:
        raise ChangeRefused("invalid", f"{path} holds {len(entries)} files; name the model's file")
    sums = _small(folder, path / SUMS, SUMS_BYTES_MAX) if SUMS in entries else None
    signature = _small(folder, path / SIGNATURE, SIGNATURE_BYTES) if SIGNATURE in entries else None
    if sums is None:
        names = {entry for entry in entries if entry.endswith(SUFFIX)}
    else:
        names = set(parse_sums(sums))
        if unknown := entries - names - {SUMS, SIGNATURE}:
            raise ChangeRefused("invalid", f"{path} holds {min(unknown)!r}, which its {SUMS} does not name")
    source = _checked(path, _all_open(path, folder, _one_model(path, names), stack))
    return Source(path, source.files, source.header, source.facts, sums, signature)


def _one_model(path: Path, names: set[str]) -> tuple[str, ...]:
    """The files of the one model among these names, in order. Raises ChangeRefused."""
    for name in names:
        check_name(name, "a model's file")
    models: Mapping[str, set[str]] = {model_name(name): set() for name in names}
    for name in names:
        models[model_name(name)].add(name)
    if len(models) != 1:
        found = ", ".join(sorted(models)[:5]) or "none"
        raise ChangeRefused("invalid", f"{path} must hold one model; it holds {found}. Name a file in it")
    split = split_name(min(names))
    parts = (min(names),) if split is None else part_names(split)
    if extra := names - set(parts):
        raise ChangeRefused("invalid", f"{path}: {min(extra)} is no part of {parts[0]}; name a file in it")
    return parts


def _all_open(path: Path, folder: int, names: tuple[str, ...], stack: contextlib.ExitStack) -> tuple[SourceFile, ...]:
    missing = [name for name in names if not _is_there(folder, name)]
    if missing:
        shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        raise ChangeRefused(
            "not_found", f"{path}: of {len(names)} files {shown} {_are(missing)} missing; copy all of them"
        )
    files = []
    for name in names:
        fd = open_regular(folder, name, path / name)
        stack.callback(os.close, fd)
        files.append(_opened(name, fd))
    return tuple(files)


def _are(missing: list[str]) -> str:
    return "is" if len(missing) == 1 else "are"


def _is_there(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    except OSError:
        # Whoever opens it says why not.
        return True
    return True


def _opened(name: str, fd: int) -> SourceFile:
    return SourceFile(name, fd, os.fstat(fd).st_size)


def _checked(path: Path, files: tuple[SourceFile, ...]) -> Source:
    return Source(path, files, *read_headers(files))


def read_headers(files: tuple[SourceFile, ...]) -> tuple[GgufHeader, ModelFacts]:
    """All headers as one, and what it says; all bounds kept. Raises ChangeRefused with what is wrong, and where."""
    headers = []
    for file in files:
        with _naming(file.name):
            headers.append(_header(file))
    with _naming(files[0].name):
        header = join_parts(headers)
        facts = facts_of(header)
        if not facts.weight_bytes:
            raise GgufError("it has no weights: it is a vocabulary, or metadata alone")
    return header, facts


def _header(file: SourceFile) -> GgufHeader:
    os.lseek(file.fd, 0, os.SEEK_SET)
    with os.fdopen(file.fd, "rb", closefd=False) as reader:
        return read_header(reader)


@contextlib.contextmanager
def _naming(name: str) -> Iterator[None]:
    try:
        yield
    except GgufError as error:
        raise ChangeRefused("invalid", f"{name} is refused: {error}") from None
    except OSError as error:
        raise ChangeRefused("invalid", f"{name} cannot be read: {error.strerror}; is the medium damaged?") from None


def _small(folder: int, path: Path, bytes_max: int) -> bytes:
    fd = open_regular(folder, path.name, path)
    with os.fdopen(fd, "rb") as file:
        data = file.read(bytes_max + 1)
    if len(data) > bytes_max:
        raise ChangeRefused("invalid", f"{path} is larger than {bytes_max} bytes")
    return data
