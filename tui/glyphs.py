"""The one table of glyphs: what is drawn in UTF-8, and what where a terminal has only ASCII."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Glyphs:
    """Each is one cell wide, or a ramp of such from little to much.

    top: a box's corners and edge, `left horizontal right`; likewise bottom. cut: where a text was cut.
    weights, kv, other, free: parts of a memory bar. bar_open, bar_close: around any bar.
    """

    ascii: bool
    top: tuple[str, str, str]
    bottom: tuple[str, str, str]
    vertical: str
    rule: str
    cut: str
    weights: str
    kv: str
    other: str
    free: str
    full: str
    bar_open: str
    bar_close: str
    ramp: str
    point: str
    mark: str


ASCII: Final = Glyphs(
    ascii=True,
    top=("+", "-", "+"),
    bottom=("+", "-", "+"),
    vertical="|",
    rule="-",
    cut="~",
    weights="#",
    kv="=",
    other="%",
    free="-",
    full="#",
    bar_open="[",
    bar_close="]",
    ramp=".:-=+*#",
    point="*",
    mark="x",
)
UTF8: Final = Glyphs(
    ascii=False,
    top=("┌", "─", "┐"),
    bottom=("└", "─", "┘"),
    vertical="│",
    rule="─",
    cut="…",
    weights="█",
    kv="▓",
    other="▒",
    free="░",
    full="█",
    bar_open="▕",
    bar_close="▏",
    ramp="▁▂▃▄▅▆▇█",
    point="•",
    mark="×",
)
# What the width probe prints: all of them are of ambiguous width in East Asian terminals.
PROBED: Final = "─█…"
