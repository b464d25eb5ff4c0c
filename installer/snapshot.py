"""What another release may write to the state, as it was before that release took it over.

Models and the audit log are not in it, nor what lives in `run`, nor prompts and answers, whose life it would lengthen.
What says who may do what never goes back, or a revocation would be undone: keys and clients stay as they are when a
snapshot is brought back. They are in it for an administrator alone, in case a release has damaged them, and until it is
well: later they would be keys that were replaced. So a release writes keys, audit log, prompts and answers in a form
that the release before it reads.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from pathlib import Path
from typing import Final

from installer.durable import sync_folder
from installer.host import free_bytes, there
from installer.layout import Layout

# Below the state directory. A folder among these stays as a whole.
_LEFT_OUT: Final = frozenset(Path(name) for name in ("audit", "models", "run", "store/capture", "store/responses"))
_KEYS: Final = frozenset({Path("clients"), Path("secrets")})
_NOT_BROUGHT_BACK: Final = _LEFT_OUT | _KEYS
# What the service itself wants to write, once it runs again.
_SPARE_BYTES: Final = 256 * 2**20


def take(layout: Layout, version: str) -> None:
    """Copies the state of a stopped service, whole or not at all, in the place of that version's earlier snapshot."""
    target = _of(layout, version)
    partial = target.with_name(target.name + ".partial")
    layout.snapshots.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700)
    for part in _parts(layout.state, _LEFT_OUT):
        _make_folder(partial / part.parent, layout.state / part.parent)
        _copy(layout.state / part, partial / part)
    # One call for the whole file system costs less than one for each file.
    os.sync()
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    sync_folder(layout.snapshots)


def bring_back(layout: Layout, version: str) -> None:
    """Puts it in the place of what is there, but for what stays. Done twice, also after a half, it is the same."""
    # Modes and owners come after contents: until then nobody else may look at it.
    private = layout.state / ".restored"
    _discard(private)
    private.mkdir(mode=0o700)
    then = _of(layout, version)
    parts = _parts(then, _NOT_BROUGHT_BACK)
    for part in parts:
        target = layout.state / part
        _make_folder(target.parent, (then / part).parent)
        _copy(then / part, private / part.name)
        os.sync()
        _discard(target)
        (private / part.name).rename(target)
        sync_folder(target.parent)
    for part in _parts(layout.state, _NOT_BROUGHT_BACK):
        # Beside the folders of the state is what people have put there.
        if part not in parts and part.parent != Path():
            _discard(layout.state / part)
    private.rmdir()


def forget_keys(layout: Layout, version: str) -> None:
    """Removes keys and clients from it: the release that came after that version is well."""
    for part in _KEYS:
        _discard(_of(layout, version) / part)
    sync_folder(layout.snapshots)


def lack_bytes(layout: Layout, *, back: bool) -> tuple[int, Path]:
    """How much room a snapshot of the state would lack, and on whose disk; 0 where there is enough.

    back: whether there must be room to bring one back too, beside what it takes the place of. The service may run, and
    make and remove files. The state may be on a disk of its own.
    """
    files = sum(_file_bytes(layout.state / part) for part in _parts(layout.state, _LEFT_OUT))
    together = layout.state.stat().st_dev == there(layout.snapshots).stat().st_dev
    wanted = {layout.snapshots: files * (2 if back and together else 1)}
    if back and not together:
        wanted[layout.state] = files
    return max((max(0, size + _SPARE_BYTES - free_bytes(folder)), folder) for folder, size in wanted.items())


def exists(layout: Layout, version: str) -> bool:
    return _of(layout, version).is_dir()


def forget(layout: Layout, keep: frozenset[str]) -> None:
    """Removes the snapshots of all versions but these."""
    for folder in layout.snapshots.iterdir() if layout.snapshots.is_dir() else ():
        if folder.name not in keep:
            shutil.rmtree(folder)


def _of(layout: Layout, version: str) -> Path:
    return layout.snapshots / version


def _parts(top: Path, without: frozenset[Path]) -> list[Path]:
    """What is copied and replaced by itself, below `top`: its entries, and those of a folder that keeps one of its own.

    Names with a dot in front are somebody's unfinished work.
    """
    divided = {path.parent for path in without} - {Path()}
    folders = [Path(), *sorted(folder for folder in divided if (top / folder).is_dir())]
    found = (folder / path.name for folder in folders for path in (top / folder).iterdir())
    return sorted(part for part in found if part not in without | divided and not part.name.startswith("."))


def _make_folder(folder: Path, like: Path) -> None:
    if not folder.is_dir():
        folder.mkdir(mode=0o700)
        shutil.copystat(like, folder)
        _own(like, folder)


def _file_bytes(entry: Path) -> int:
    """Of a file, or of all files below a folder; nothing that a link leads to."""
    walked = () if entry.is_symlink() else os.walk(entry)
    found = 0
    for path in (entry, *(Path(folder, name) for folder, _, names in walked for name in names)):
        with contextlib.suppress(FileNotFoundError):
            about = path.lstat()
            found += about.st_size if stat.S_ISREG(about.st_mode) else 0
    return found


def _copy(source: Path, target: Path) -> None:
    """With owners, modes and times; links stay links, sockets are left out."""
    if source.is_dir() and not source.is_symlink():
        shutil.copytree(source, target, symlinks=True, ignore=_special, copy_function=_copy_file)
        for folder in (target, *(path for path in target.rglob("*") if path.is_dir() and not path.is_symlink())):
            _own(source / folder.relative_to(target), folder)
    elif source.is_file() or source.is_symlink():
        _copy_file(str(source), str(target))


def _copy_file(source: str, target: str) -> str:
    shutil.copy2(source, target, follow_symlinks=False)
    _own(Path(source), Path(target))
    return target


def _own(source: Path, target: Path) -> None:
    about = source.lstat()
    os.chown(target, about.st_uid, about.st_gid, follow_symlinks=False)


def _special(folder: str, names: list[str]) -> list[str]:
    return [
        name
        for path, name in ((Path(folder) / name, name) for name in names)
        if not (path.is_symlink() or path.is_file() or path.is_dir())
    ]


def _discard(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
