"""The files a command reads and writes: checked before anything is changed, so that nothing new is lost."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import typer

from appliance.cli.options import REMOTE_ENV
from appliance.errors import ConfigError, StateError
from appliance.security.bundle_folder import write_bundle
from appliance.state_dir import StateDir, write_atomic

FILE_BYTES_MAX: Final = 16 * 2**20


def read_file(path: Path, bytes_max: int = FILE_BYTES_MAX) -> bytes:
    """A small file. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            data = file.read(bytes_max + 1)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > bytes_max:
        raise ConfigError(f"{path} is larger than {bytes_max} bytes; name another file")
    return data


def read_pem(path: Path) -> str:
    """A PEM file's text. Raises ConfigError."""
    data = read_file(path)
    try:
        return data.decode("ascii")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is no PEM file: it holds more than text; `openssl x509 -inform DER -in {path}` turns DER into PEM"
        ) from error


def check_file(path: Path | None, *, new: bool = False) -> None:
    """Raises ConfigError where `write_file` could not write to it, or where it exists and is to be new."""
    if path is None:
        return
    kind = _looked_at(path)
    if kind == "folder":
        raise ConfigError(f"{path} is a folder; name a file in it")
    if kind == "special":
        raise ConfigError(f"{path} is no ordinary file and would be replaced by one; name a file in a folder")
    if new and kind == "file":
        raise ConfigError(f"{path} exists and would be lost; name another file")
    parent = path.resolve().parent
    if _looked_at(parent) != "folder":
        raise ConfigError(f"{parent} is no folder; make it first")
    _check_may_write(parent)


def write_file(path: Path, text: str, *, private: bool) -> None:
    """Replaces it as a whole. private: nobody else may read it. Raises StateError."""
    write_atomic(path.resolve(), text.encode(), 0o600 if private else 0o644)


def check_folder(folder: Path, *, new: Iterable[str] = ()) -> None:
    """Raises ConfigError where `hand_over` could not write to it, or would overwrite one of `new`."""
    nearest = folder.absolute()
    while _looked_at(nearest) == "nothing":
        nearest = nearest.parent
    if _looked_at(nearest) != "folder":
        raise ConfigError(f"{nearest} is no folder; name another with --out")
    _check_may_write(nearest)
    for name in new:
        if _looked_at(folder / name) != "nothing":
            raise ConfigError(f"{folder / name} exists and would be lost; name another folder with --out")


def hand_over(folder: Path, answer: Mapping[str, Any], *, lost: str) -> None:
    """Writes the files of an answer, and says so. Raises StateError.

    lost: what to do where they cannot be written.
    """
    files = files_of(answer)
    try:
        write_bundle(folder, files)
    except StateError as error:
        raise StateError(f"{error}. They are stored nowhere else: {lost}") from error
    typer.echo(f"{folder}: {' '.join(files)}")


def files_of(answer: Mapping[str, Any]) -> dict[str, bytes]:
    """The files in an answer. Raises StateError for a name that would leave the folder."""
    for name in answer["files"]:
        if name in ("", ".", "..") or "/" in name or "\0" in name:
            raise StateError(f"the appliance sent a file named {name!r}; nothing is written")
    return {name: text.encode() for name, text in answer["files"].items()}


def bundle_folder(state_dir: Path, out: Path | None, name: str) -> Path:
    """Where a client's files go: `--out`, else its appliance's state directory where that is ours, else here."""
    if out is not None:
        return out
    clients = StateDir(state_dir).clients
    try:
        ours = not os.environ.get(REMOTE_ENV) and clients.is_dir() and os.access(clients, os.W_OK)
    except PermissionError:
        ours = False
    return (clients if ours else Path.cwd()) / name


def _looked_at(path: Path) -> Literal["folder", "file", "special", "nothing"]:
    try:
        if path.is_dir():
            return "folder"
        if path.is_file():
            return "file"
        return "special" if path.exists() else "nothing"
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error


def _check_may_write(folder: Path) -> None:
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(f"{folder}: this user may not write there; name another place")
