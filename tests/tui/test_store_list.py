"""The models of the store, over the Models screen: their files are verified, and one is removed by its name."""

from __future__ import annotations

from datetime import UTC

import pytest

from tests.tui.driving import driven, frozen
from tests.tui.test_acts import watched
from tui.admin_data import QuarantinedModel, Store, StoredModel, StoreJob
from tui.drawing.store_rows import store_rows
from tui.glyphs import ASCII
from tui.lines import texts
from tui.look import Look
from tui.screens.confirm import Confirm

THEN = "2026-11-20T00:00:00+00:00"


async def test_a_model_is_verified_and_the_list_says_what_came_of_it() -> None:
    async with watched() as (made, source):
        await made.press("2", "i")
        assert "MODELS OF THE STORE" in made.text()
        await made.press("v")
        assert "appliance models verify qwen3-32b-q4_k_m" in made.text()
        await made.press("tab", "enter")
        assert [act.path for act in source.sent] == ["/store/qwen3-32b-q4_k_m/verify"]
        await made.press("i")
        assert "verify: done" in made.text()


async def test_removing_takes_the_name_and_a_reason() -> None:
    async with watched() as (made, source):
        await made.press("2", "i")
        await made.press("j", "j", "x")
        assert isinstance(made.app.screen, Confirm)
        await made.press("tab", "enter")
        assert source.sent == []
        await made.press("escape", "i")
        await made.press("j", "j", "x")
        await made.press("shift+tab", "shift+tab", *"deepseek-r1-14b", "enter", *"INC-7", "enter", "tab", "enter")
        assert [(act.path, act.body) for act in source.sent] == [
            ("/store/deepseek-r1-14b/remove", {"quarantined": False, "reason": "INC-7"})
        ]


async def test_a_loaded_model_is_not_removed() -> None:
    async with watched() as (made, source):
        await made.press("2", "i")
        await made.press("x")
        assert source.sent == []
        assert "is loaded as" in made.text()


@pytest.mark.slow
async def test_who_may_only_look_is_offered_nothing() -> None:
    async with driven(frozen("slow"), read_only=True) as made:
        await made.press("2", "i")
        assert "MODELS OF THE STORE" in made.text()
        await made.press("x")
        assert not isinstance(made.app.screen, Confirm)


def test_what_is_said_of_a_model() -> None:
    def stored(name: str, fault: str | None = None) -> StoredModel:
        return StoredModel(name=name, bytes=2**34, quantisation="F16", imported=THEN, verified=THEN, fault=fault)

    def job(name: str, state: str, error: str | None = None) -> StoreJob:
        return StoreJob(id="1", kind="verify", name=name, state=state, bytes_done=4, bytes_total=10, error=error)

    store = Store(
        models=(stored("a"), stored("b", "its sha256 is wrong"), stored("c")),
        quarantined=(QuarantinedModel(name="d", reason="its worker died", since=THEN),),
        jobs=(job("a", "done"), job("a", "hashing"), job("c", "failed", "it was cancelled")),
    )
    assert [texts(row) for row in store_rows(store, Look(ASCII, UTC))] == [
        ["a  16.0G  F16", "     hashes right at 2026-11-20 00:00", "     verify hashing: 40% of 0.0G"],
        ["b  16.0G  F16", "     FAULT: its sha256 is wrong"],
        ["c  16.0G  F16", "     hashes right at 2026-11-20 00:00", "     verify: it was cancelled"],
        ["d  in quarantine since 2026-11-20 00:00", "     its worker died"],
    ]
