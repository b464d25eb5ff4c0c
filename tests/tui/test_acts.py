"""Acts from the key to the answer: what is asked, what is refused, what is sent."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.tui.driving import Driven, driven, frozen
from tests.tui.proposals import proposals
from tui.demo.source import FROZEN_MOMENT, DemoSource
from tui.messages import Gone, Propose
from tui.proposals import allow, keys
from tui.proposals.proposal import Proposal
from tui.screens.confirm import Confirm
from tui.screens.modal import Button
from tui.screens.second_person import SecondPerson
from tui.screens.told_once import ToldOnce
from tui.source import Act, ActRefused, Planned


class Watched(DemoSource):
    """refusals: what the next acts and plans are answered with, one after the other."""

    def __init__(self, **options: Any) -> None:
        super().__init__(1, "slow", now=lambda: FROZEN_MOMENT, frozen=True, history_seconds=5, **options)
        self.sent: list[Act] = []
        self.planned: list[str] = []
        self.refusals: list[ActRefused | None] = []

    async def plan(self, path: str, body: dict[str, Any]) -> Planned:
        self.planned.append(path)
        self._maybe_refuse()
        return await super().plan(path, body)

    async def act(self, act: Act) -> Any:
        self.sent.append(act)
        self._maybe_refuse()
        return await super().act(act)

    def _maybe_refuse(self) -> None:
        refusal = self.refusals.pop(0) if self.refusals else None
        if refusal is not None:
            raise refusal


@contextlib.asynccontextmanager
async def watched(**options: Any) -> AsyncIterator[tuple[Driven, Watched]]:
    recorded = options.pop("recorded", False)
    source = Watched(recorded=recorded)
    async with driven(source, size=(100, 30), **options) as made:
        yield made, source


def has_focus(made: Driven) -> str | None:
    focused = made.app.screen.focused
    return None if focused is None else focused.id


async def propose(made: Driven, proposal: Proposal) -> None:
    made.app.post_message(Propose(proposal))
    await made.settle()


@pytest.mark.slow
@pytest.mark.parametrize("proposal", proposals(), ids=lambda one: one.action)
async def test_every_question_begins_on_cancel_and_fits(proposal: Proposal) -> None:
    async with driven(frozen("slow"), size=(80, 24)) as made:
        modal = Confirm(proposal, ("Planned.",), made.app.look, "dark", lambda: None)
        made.app.push_screen(modal)
        await made.settle()
        assert has_focus(made) == "cancel"
        shown = made.text()
        assert f"[ {proposal.verb} ]" in shown or f"( {proposal.verb} )" in shown
        assert "appliance " in shown
        # What is to be typed is not there already.
        assert made.app.screen.query_one("#do", Button).locked is any(
            one.exact is not None or (one.required and not one.value) for one in proposal.fields
        )


async def test_what_a_question_is_about_stays_in_sight_behind_it() -> None:
    async with watched() as (made, _):
        await made.press("2", "u")
        assert isinstance(made.app.screen, Confirm)
        assert "<2Models>" in made.text()


async def test_enter_on_a_fresh_question_does_nothing() -> None:
    async with watched() as (made, source):
        await made.press("2", "j", "j", "l")
        assert isinstance(made.app.screen, Confirm)
        await made.press("enter")
        assert source.sent == []
        assert "nothing was done" in made.text()


async def test_a_model_is_loaded() -> None:
    async with watched() as (made, source):
        await made.press("2", "j", "j", "l")
        await made.press("tab", "enter")
        assert [act.path for act in source.sent] == ["/instances/deepseek-r1-14b/load"]
        assert source.sent[0].generation is None
        assert "model.load deepseek-r1-14b: ok" in made.text()


@pytest.mark.slow
async def test_a_busy_model_takes_its_name() -> None:
    async with watched() as (made, source):
        await made.press("2", "u")
        assert "4 requests in flight" in made.text()
        # To the field, to Cancel, to the button that does nothing yet.
        await made.press("tab", "enter")
        assert source.sent == []
        await made.press("escape", "u")
        await made.press("shift+tab", "shift+tab", *"qwen3-32b-q4_k_m", "enter", *"INC-7", "enter", "tab", "enter")
        assert [act.path for act in source.sent] == ["/instances/qwen3-32b-q4_k_m/unload"]
        assert source.sent[0].body == {"drain_seconds": 30.0, "reason": "INC-7"}


_SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "state", ["read_only", "recorded", *(pytest.param(one, marks=_SLOW) for one in ("stale", "lost", "paused"))]
)
async def test_where_figures_are_not_of_now_nothing_can_be_done(state: str) -> None:
    options = {state: True} if state in ("read_only", "recorded") else {}
    async with watched(**options) as (made, source):
        await made.press("2")
        if state == "stale":
            made.clock.now += 60
        elif state == "lost":
            made.app.on_gone(Gone("connection refused", 4.0))
        elif state == "paused":
            await made.press("p")
        await made.press("u")
        assert not isinstance(made.app.screen, Confirm)
        assert (source.planned, source.sent) == ([], [])


async def test_what_became_old_while_it_was_asked_is_not_done() -> None:
    async with watched() as (made, source):
        await made.press("2", "j", "j", "l")
        made.clock.now += 60
        await made.press("tab", "enter")
        assert source.sent == []
        assert "the figures are old" in made.text()


@pytest.mark.slow
async def test_a_refusal_is_told_in_full() -> None:
    async with watched() as (made, source):
        source.refusals = [ActRefused("forbidden", "model.unload needs the role operator; anna has viewer. " * 3)]
        await made.press("2", "u")
        assert "needs the role operator" in made.text()
        assert source.sent == []


@pytest.mark.slow
async def test_what_the_appliance_warns_of_takes_a_name() -> None:
    async with watched() as (made, source):
        source.refusals = [ActRefused("needs_force", "10.0.0.9 would be shut out")]
        await propose(made, allow.discard())
        assert "10.0.0.9 would be shut out" in made.text()
        assert "--force" in made.text()
        await made.press("shift+tab", *"allowlist", "enter", "tab", "enter")
        assert source.sent[0].body == {"force": True}


@pytest.mark.slow
async def test_a_second_person_is_waited_for() -> None:
    async with watched() as (made, source):
        asked = "let one run `appliance approvals approve ap_1`, then repeat the command with --approval ap_1"
        source.refusals = [None, ActRefused("needs_approval", asked), ActRefused("forbidden", "not approved yet")]
        await made.press("2", "j", "j", "l")
        await made.press("tab", "enter")
        assert isinstance(made.app.screen, SecondPerson)
        assert has_focus(made) == "cancel"
        assert "ap_1" in made.text()
        await made.press("tab", "enter")
        assert "not approved yet" in made.text()
        await made.press("tab", "enter")
        assert [act.approval for act in source.sent] == [None, "ap_1", "ap_1"]
        assert len({act.key for act in source.sent}) == 3
        assert "model.load deepseek-r1-14b: ok" in made.text()


async def test_a_secret_is_shown_once_and_no_stray_key_closes_it() -> None:
    async with watched() as (made, source):
        await propose(made, keys.new_key("li"))
        await made.press("tab", "enter")
        assert isinstance(made.app.screen, ToldOnce)
        assert "apl_sk_demo" in made.text()
        await made.press("enter", "q", "escape")
        assert "apl_sk_demo" in made.text()
        await made.press("enter")
        assert "apl_sk_demo" not in made.text()
        assert source.sent[0].body == {"principal": "li", "label": ""}


@pytest.mark.slow
async def test_an_alert_is_acknowledged_with_a_note() -> None:
    async with watched() as (made, source):
        await made.press("a")
        await made.press("c")
        assert "ACKNOWLEDGE ALERT" in made.text()
        await made.press("shift+tab", *"restarting")
        await made.press("enter")
        await made.press("tab", "enter")
        assert [(act.path, act.body["note"]) for act in source.sent] == [("/alerts/ack", "restarting")]
