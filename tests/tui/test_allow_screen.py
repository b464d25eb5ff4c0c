"""The Allowlist screen: who was denied is let in by a proposal that is filled in already."""

from __future__ import annotations

from tests.tui.driving import driven, frozen
from tests.tui.test_acts import watched
from tui.screens.allow import Allow
from tui.screens.confirm import Confirm


async def test_who_was_denied_is_proposed() -> None:
    async with driven(frozen(), size=(100, 30)) as made:
        await made.press("5", "tab", "j", "a")
        question = made.app.screen
        assert isinstance(question, Confirm)
        assert "appliance allow add 192.168.1.20 --listener api" in made.text()
        await made.press("escape", "x")
        assert "Tab goes to the entries" in made.text()
        await made.press("tab")
        assert made.app.query_one(Allow).rows.has_focus


async def test_what_the_units_keep_out_is_in_sight_and_in_the_question() -> None:
    said = "IPAddressAllow= of appliance.socket keeps out 10.31.4.0/24"
    async with driven(frozen(), size=(100, 30)) as made:
        await made.press("5")
        assert made.text().count(said) == 1
        await made.press("A")
        assert isinstance(made.app.screen, Confirm)
        assert said in made.text().replace(" │\n", "").replace("│", "")
        await made.press("escape")


async def test_a_note_is_edited_and_who_may_connect_is_not() -> None:
    async with watched() as (made, source):
        await made.press("5", "e")
        assert isinstance(made.app.screen, Confirm)
        await made.press("shift+tab", "shift+tab", *" 2", "enter", *"7d", "enter")
        assert "--listener api --for 7d" in made.text()
        await made.press("tab", "enter")
        assert [act.body for act in source.sent] == [
            {"add": [{"network": "10.20.0.0/16", "listener": "api", "comment": "office 2", "for_seconds": 7 * 86_400}]}
        ]
        await made.press("j", "e")
        assert "U discards" in made.text()
