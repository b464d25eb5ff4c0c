"""The Allowlist screen: who was denied is let in by a proposal that is filled in already."""

from __future__ import annotations

from tests.tui.driving import driven, frozen
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
