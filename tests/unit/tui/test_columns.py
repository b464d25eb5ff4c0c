"""Which columns there is room for."""

from __future__ import annotations

from tui.widgets.columns import Column, place


def column(title: str, width: int, rank: int = 0, most: int = 0) -> Column[str]:
    return Column(title, width, lambda row: row, width_max=most, rank=rank)


COLUMNS = (column("A", 4), column("B", 4, 2), column("C", 4, 1), column("D", 4, most=9))


def shown(width: int) -> list[tuple[str, int]]:
    return [(one.column.title, one.width) for one in place(COLUMNS, width)]


def test_the_highest_rank_goes_first() -> None:
    assert [name for name, _ in shown(19)] == ["A", "B", "C", "D"]
    assert [name for name, _ in shown(18)] == ["A", "C", "D"]
    assert [name for name, _ in shown(13)] == ["A", "D"]
    assert [name for name, _ in shown(5)] == ["A", "D"]


def test_what_is_left_over_goes_to_the_last() -> None:
    assert shown(19) == [("A", 4), ("B", 4), ("C", 4), ("D", 4)]
    assert shown(40)[-1] == ("D", 25)
