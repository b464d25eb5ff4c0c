"""The columns of a list: which of them a width has room for, and how wide each is. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from tui.lines import Align, Role

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Column(Generic[Row]):
    """One column.

    title: a fixed word. width: at least; grows up to `width_max` where there is room. rank: columns of a higher rank
    go first where there is none; rank 0 stays. cell: what it shows of a row. role: how.
    """

    title: str
    width: int
    cell: Callable[[Row], str]
    align: Align = "left"
    width_max: int = 0
    rank: int = 0
    role: Callable[[Row], Role] | None = None
    sort: Callable[[Row], float | str] | None = None


@dataclass(frozen=True, slots=True)
class Placed(Generic[Row]):
    """A column that is shown, in so many cells and with a gap behind it."""

    column: Column[Row]
    width: int


def place(columns: Sequence[Column[Row]], width: int, gap: int = 1) -> tuple[Placed[Row], ...]:
    """The columns that `width` cells have room for, in their order. The last one takes what is left over."""
    kept = list(columns)

    def needed() -> int:
        return sum(column.width + gap for column in kept) - gap

    while needed() > width and any(column.rank for column in kept):
        kept.remove(max(kept, key=lambda column: column.rank))
    spare = max(0, width - needed())
    placed: list[Placed[Row]] = []
    for column in kept:
        grown = min(spare, max(0, column.width_max - column.width))
        spare -= grown
        placed.append(Placed(column, column.width + grown))
    if placed and placed[-1].column.align == "left":
        last = placed[-1]
        placed[-1] = Placed(last.column, last.width + spare)
    return tuple(placed)
