"""Languages and glyphs are changed while the dashboard runs."""

from __future__ import annotations

import re
from typing import Final

import pytest
from rich.cells import cell_len

from tests.tui.driving import Driven, driven, frozen
from tests.tui.proposals import proposals
from tui.glyphs import ASCII, UTF8
from tui.messages import Gone
from tui.proposals.proposal import Proposal
from tui.screens.confirm import Confirm
from tui.screens.modal import WIDTH

_INSIDE: Final = re.compile("│(.*)│")
_CHINESE: Final = re.compile("[\u4e00-\u9fff]")


async def switched(made: Driven, command: str) -> None:
    await made.press("colon", *command, "enter")


async def test_the_language_is_changed_on_all_screens_and_back() -> None:
    async with driven(frozen("slow"), glyphs=UTF8) as made:
        english = []
        for key in "137":
            await made.press(key)
            english.append(made.text())
        await switched(made, "language")
        for key, before in zip("731", reversed(english), strict=True):
            await made.press(key)
            now = made.lines()
            assert "总览" in now[1]
            assert "Overview" not in "".join(now)
            # Titles, statuses and keys are other words; nothing has moved out of its place.
            assert all(cell_len(one) <= 80 for one in now)
            assert made.text() != before
        await switched(made, "language")
        for key, before in zip("137", english, strict=True):
            await made.press(key)
            assert made.text() == before


@pytest.mark.slow
async def test_a_detail_that_stands_still_is_reworded_too() -> None:
    async with driven(frozen()) as made:
        await made.press("3")
        assert "no error" in made.text()
        await switched(made, "language")
        assert "no error" not in made.text()


@pytest.mark.slow
async def test_glyphs_are_changed_while_it_runs() -> None:
    async with driven(frozen(), glyphs=UTF8) as made:
        await switched(made, "ascii")
        for key in "123":
            await made.press(key)
            # Names have an id that is shown instead.
            assert made.text().isascii()
        await switched(made, "ascii")
        await made.press("1")
        assert "┌" in made.text()


@pytest.mark.slow
async def test_help_and_palette_are_in_the_language() -> None:
    async with driven(frozen(), size=(100, 45), language="zh", glyphs=UTF8) as made:
        await made.press("3", "question_mark")
        assert "跟随最新，或停留" in made.text()
        assert "退出面板" in made.text()
        await made.press("escape", "colon", *"quit")
        assert "退出" in made.text()


@pytest.mark.slow
async def test_a_notice_is_in_the_language() -> None:
    async with driven(frozen("calm"), language="zh", glyphs=UTF8) as made:
        await made.press("7", "N")
        assert "这里没有更多失败" in made.lines()[-2]
        made.app.on_gone(Gone("it ended the stream", 4.0))
        await made.settle()
        assert "对方结束了数据流" in made.text()


@pytest.mark.slow
@pytest.mark.parametrize("proposal", proposals(), ids=lambda one: one.action)
async def test_a_question_is_in_the_language_and_keeps_within_its_box(proposal: Proposal) -> None:
    async with driven(frozen("slow"), language="zh", glyphs=UTF8) as made:
        # Behind the box is a screen that has none itself.
        await made.press("7")
        made.app.push_screen(Confirm(proposal, (), made.app.look, "dark", lambda: None))
        await made.settle()
        found = [_INSIDE.search(one) for one in made.lines()]
        box = [one[1] for one in found if one is not None]
        assert _CHINESE.search("".join(box))
        assert {cell_len(one) for one in box} == {WIDTH - 2}
        for said in proposal.facts:
            # Whatever its line ends, every character of it is there.
            whole = "".join(made.app.look.say(said).split())
            assert whole in "".join("".join(box).split())


@pytest.mark.slow
async def test_an_act_says_in_the_language_what_came_of_it() -> None:
    async with driven(frozen("slow"), size=(100, 30), language="zh", glyphs=UTF8) as made:
        await made.press("2", "j", "j", "l")
        await made.press("tab", "enter")
        assert "开始加载" in made.text()
        assert made.app.look.glyphs is not ASCII
