"""Every screen in every state, at two sizes, in UTF-8 and ASCII, as text."""

from __future__ import annotations

from itertools import product
from typing import Final, get_args

import pytest
from rich.cells import cell_len

from tests.tui.driving import GLYPHS, State, driven, frozen, in_state
from tests.tui.golden import check_golden
from tui.drawing.frame import TABS
from tui.glyphs import ASCII, UTF8

SIZES: Final = ((80, 24), (160, 45))
# One is always checked; all of them take half a minute.
_QUICK: Final = {("live", (80, 24), "ascii")}
CASES: Final = [
    pytest.param(*case, marks=() if case in _QUICK else (pytest.mark.slow,))
    for case in product(get_args(State), SIZES, GLYPHS)
]


@pytest.mark.parametrize(("state", "size", "mode"), CASES)
async def test_every_screen_is_as_it_was_drawn(state: State, size: tuple[int, int], mode: str) -> None:
    async with in_state(state, size, GLYPHS[mode]) as made:
        screens = []
        for number, name in enumerate(TABS):
            await made.press(str(number + 1))
            lines = made.lines()
            assert all(cell_len(one) <= size[0] for one in lines)
            assert mode != "ascii" or all(one.isascii() for one in lines)
            screens.append(f"== {name}\n" + "\n".join(lines))
    check_golden(f"{state}-{size[0]}x{size[1]}-{mode}", "\n".join(screens))


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["dark", "light", "contrast", "ansi"])
async def test_the_styles_are_as_they_were(theme: str) -> None:
    async with driven(frozen(), theme=theme) as made:  # type: ignore[arg-type]
        check_golden(f"styles-{theme}", "\n".join(made.styles()))


@pytest.mark.slow
async def test_chinese_keeps_the_columns() -> None:
    async with driven(frozen(), language="zh", glyphs=UTF8) as made:
        screens = []
        for number, name in enumerate(TABS):
            await made.press(str(number + 1))
            assert all(cell_len(one) <= 80 for one in made.lines())
            screens.append(f"== {name}\n{made.text()}")
    check_golden("chinese", "\n".join(screens))


@pytest.mark.slow
@pytest.mark.parametrize("size", [(100, 30), (120, 40), (200, 50), (60, 15)])
async def test_other_sizes(size: tuple[int, int]) -> None:
    async with driven(frozen("oom"), size=size, glyphs=ASCII) as made:
        check_golden(f"overview-{size[0]}x{size[1]}", made.text())
