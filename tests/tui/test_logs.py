"""Log lines: wrapped, marked, found again."""

from __future__ import annotations

import pytest

from tests.tui.driving import driven, frozen
from tui.glyphs import UTF8
from tui.screens.logs import Logs
from tui.source import LogLine, Update

LONG = "prompt of 33120 tokens is longer than the context of the slot; " * 4


def log_line(number: int, message: str) -> LogLine:
    return LogLine(time=float(number), level="info", logger="engine", message=message, number=number)


async def test_long_log_lines_go_on_below_where_that_is_asked_for() -> None:
    async with driven(frozen("empty")) as made:
        lines = [log_line(number, f"{number} {LONG}{number}") for number in range(30)]
        made.app.board.take(Update(logs=tuple(lines)), 100.0)
        await made.press("7")
        before = made.text()
        assert f"{LONG.split(';')[0]}; prompt" not in " ".join(before.split())
        await made.press("w")
        shown = made.lines()[4:-2]
        # The newest is there from its beginning to its end, each line of it under the other.
        block = shown[: next(place for place, one in enumerate(shown) if " 28 " in one)]
        assert len(block) > 3
        assert {one[: one.index("INFO")].strip(" >") for one in block[:1]} == {"08:00:29.000"}
        said = " ".join(block[0].split("29 ", 1)[1].split() + [word for one in block[1:] for word in one.split()])
        assert said == f"{LONG}29"
        # The cursor moves by lines of the log, and is always in sight.
        for _ in range(12):
            await made.press("j")
            assert any(one.startswith(">") for one in made.lines())
        rows = made.app.query_one(Logs).rows
        assert rows.position == 12
        await made.press("G")
        assert any(one.startswith(">") for one in made.lines())
        await made.press("g", "w")
        assert made.text() == before.replace("follow ON", "follow off")


@pytest.mark.slow
async def test_marked_log_lines_are_found_again() -> None:
    async with driven(frozen("empty"), glyphs=UTF8) as made:
        made.app.board.take(Update(logs=tuple(log_line(number, f"line {number}") for number in range(60))), 100.0)
        await made.press("7", "M")
        assert "no line here is marked" in made.text()
        await made.press(*"jjm", *"jjjm", "G")
        rows = made.app.query_one(Logs).rows
        for wanted in (2, 5, 2):
            await made.press("M")
            assert rows.position == wanted
        assert sum("•" in one for one in made.lines()) == 2
        await made.press("m")
        assert sum("•" in one for one in made.lines()) == 1
