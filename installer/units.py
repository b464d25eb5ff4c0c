"""A release's units, users and folders, put where systemd finds them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from installer.durable import remove, sync_folder, write_whole
from installer.layout import UNIT_FOLDERS, Layout


def place_units(layout: Layout, release: Path) -> None:
    """Copies, because /opt may be mounted after systemd has read them. What an earlier release had more is removed."""
    wanted = dict(_of(layout, release))
    for target, source in wanted.items():
        target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        content = source.read_bytes()
        if not target.exists() or target.read_bytes() != content:
            write_whole(target, content)
    for target in _placed(layout):
        if target not in wanted:
            remove(target)


def keeps_sockets(layout: Layout, release: Path) -> bool:
    """Whether a release's sockets are those that are placed, so that they may stay when its units take their place."""
    wanted = {target: source.read_bytes() for target, source in _of(layout, release) if target.suffix == ".socket"}
    placed = {target: target.read_bytes() for target in _placed(layout) if target.suffix == ".socket"}
    return wanted == placed


def remove_units(layout: Layout) -> None:
    for target in _placed(layout):
        remove(target)


def _of(layout: Layout, release: Path) -> Iterator[tuple[Path, Path]]:
    for kind, folder in UNIT_FOLDERS.items():
        for source in sorted((release / "systemd" / kind).glob("appliance*")):
            yield layout.root / folder / source.name, source


def _placed(layout: Layout) -> Iterator[Path]:
    """Every file there with our name: nothing but releases puts any into these folders."""
    for folder in UNIT_FOLDERS.values():
        if (layout.root / folder).is_dir():
            yield from sorted((layout.root / folder).glob("appliance*"))
            sync_folder(layout.root / folder)
