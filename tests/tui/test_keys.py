"""What keys do, on a clock that stands still."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from textual.events import Paste

from appliance.telemetry.request_record import RequestRecord
from appliance.telemetry.snapshot import ModelFigures, Snapshot
from tests.tui.driving import Driven, driven, frozen
from tui.demo.scenario import scenario_of
from tui.demo.source import FROZEN_MOMENT, DemoSource
from tui.demo.world import World
from tui.messages import Arrived
from tui.screens.keys import Keys
from tui.screens.overlay import Overlay
from tui.screens.palette import Palette
from tui.screens.requests import Requests
from tui.source import LogLine, SourceLost, Update
from tui.widgets.filter_input import FilterInput

HOSTILE = "m\x1b]0;owned\x07[@click=app.quit]x[/]"


def requests_of(made: Driven) -> Requests:
    return made.app.query_one(Requests)


async def typed(made: Driven, text: str) -> None:
    await made.press(*text)


async def test_the_filter_follows_the_typing() -> None:
    async with driven(frozen("slow")) as made:
        await made.press("3", "slash")
        await typed(made, "st>=400")
        ring = requests_of(made).rows.ring
        assert 0 < len(ring) < ring.total
        assert all(ring.row(ring.number_at(place)).status >= 400 for place in range(len(ring)))
        await made.press("escape", "escape")
        assert len(ring) == ring.total


@pytest.mark.slow
async def test_a_wrong_filter_is_explained_and_changes_nothing() -> None:
    async with driven(frozen()) as made:
        await made.press("3", "slash")
        await typed(made, '"st')
        assert "the quote has no end" in made.text()
        assert len(requests_of(made).rows.ring) == requests_of(made).rows.ring.total


async def test_the_cursor_stays_on_its_request_when_others_come() -> None:
    source = frozen()
    async with driven(source) as made:
        await made.press("3", "j", "j", "j")
        rows = requests_of(made).rows
        chosen = rows.selected
        assert chosen is not None
        made.app.board.take(Update(requests=tuple(replace(chosen, id=f"req_new{n}") for n in range(40))), 100.0)
        await made.settle()
        assert rows.selected is chosen
        assert rows.position == 43
        assert made.text().count(">") >= 1
        await made.press("f")
        assert rows.selected is not None
        assert rows.selected.id == "req_new39"


@pytest.mark.slow
async def test_pausing_counts_what_comes() -> None:
    async with driven(frozen()) as made:
        await made.press("3", "p")
        total = requests_of(made).rows.ring.total
        record = requests_of(made).rows.selected
        assert record is not None
        made.app.board.take(Update(requests=(record,) * 184), 100.0)
        await made.settle()
        assert "PAUSED +184" in made.text()
        assert requests_of(made).rows.ring.total == total
        await made.press("p")
        assert requests_of(made).rows.ring.total == total + 184


@pytest.mark.slow
async def test_next_error_goes_to_older_failures() -> None:
    async with driven(frozen("slow")) as made:
        await made.press("3", "n")
        first = requests_of(made).rows.selected
        assert first is not None
        assert first.outcome != "ok"
        await made.press("n")
        second = requests_of(made).rows.selected
        assert second is not None
        assert second.time + second.total_seconds <= first.time + first.total_seconds
        await made.press("N")
        assert requests_of(made).rows.selected is first


async def test_what_a_key_came_to_is_said_for_a_while() -> None:
    async with driven(frozen("calm")) as made:
        for number in "37":
            await made.press(number, "N")
            assert "no further failure here" in made.lines()[-2]
            made.clock.now += 60.0
            await made.settle()
            assert "no further failure here" not in made.text()


@pytest.mark.slow
async def test_sorting_puts_the_slowest_first() -> None:
    async with driven(frozen()) as made:
        await made.press("3", "s", "g")
        ring = requests_of(made).rows.ring
        took = [ring.row(ring.number_at(place)).total_seconds for place in range(len(ring))]
        assert took == sorted(took, reverse=True)


@pytest.mark.slow
async def test_the_record_is_shown_as_it_is_stored() -> None:
    async with driven(frozen(), size=(100, 40)) as made:
        await made.press("3")
        record = requests_of(made).rows.selected
        await made.press("J")
        assert isinstance(made.app.screen, Overlay)
        assert record is not None
        assert record.id in made.text()
        await made.press("escape")
        assert not isinstance(made.app.screen, Overlay)


@pytest.mark.slow
async def test_a_failure_opens_among_the_requests() -> None:
    async with driven(frozen()) as made:
        await made.press("tab", "j", "enter")
        assert "<3Requests>" in made.text()
        assert "id:req_71c0" in made.text()


async def test_a_request_that_a_filter_hides_is_found_among_all() -> None:
    async with driven(frozen("slow")) as made:
        requests = requests_of(made)
        wanted = next(record for record in requests.newest() if record.status < 400)
        await made.press("3", "slash")
        await typed(made, "st>=400")
        requests.find(wanted.id)
        await made.settle()
        assert requests.rows.selected is wanted
        assert not requests.rows.ring.filtered


@pytest.mark.slow
async def test_help_lists_the_keys_of_the_screen() -> None:
    async with driven(frozen(), size=(100, 40)) as made:
        await made.press("3", "question_mark")
        assert "what the same key asked" in made.text()
        assert "leave the dashboard" in made.text()


@pytest.mark.slow
async def test_commands_are_found_by_name() -> None:
    async with driven(frozen()) as made:
        await made.press("colon")
        assert isinstance(made.app.screen, Palette)
        await typed(made, "slower")
        await made.press("enter")
        await made.settle()
        assert "<3Requests>" in made.text()
        assert "dur>30" in made.text()


async def test_what_is_pasted_presses_no_keys() -> None:
    async with driven(frozen()) as made:
        await made.press("3")
        made.app.post_message(Paste("q3p\x1b[31m"))
        await made.settle()
        assert made.app.is_running
        assert not made.app.board.paused
        await made.press("slash")
        made.app.query_one("#requests-input", FilterInput).post_message(Paste("key:a\x1b[31m\nq"))
        await made.settle()
        assert made.app.query_one("#requests-input", FilterInput).value == "key:a\\x1b[31m"


@pytest.mark.slow
async def test_a_new_critical_alert_rings_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rung: list[int] = []
    async with driven(frozen("calm")) as made:
        monkeypatch.setattr(made.app, "bell", lambda: rung.append(1))
        critical = World(1, scenario_of("expired"), FROZEN_MOMENT).snapshot(FROZEN_MOMENT)
        for _ in range(3):
            made.app.on_arrived(Arrived(Update(snapshot=critical)))
        assert rung == [1]


@pytest.mark.slow
async def test_read_only_is_said() -> None:
    async with driven(frozen(), read_only=True) as made:
        assert made.lines()[0].split("  ")[2].endswith("RO")


@pytest.mark.slow
async def test_an_address_is_tested() -> None:
    class Answering(DemoSource):
        async def ask(self, path: str, **query: str | int | None) -> Any:
            if path == "/allowlist/test?address=10.31.4.9":
                return {"address": "10.31.4.9", "now": {"api": False}, "staged": {"api": True}}
            return await super().ask(path, **query)

    source = Answering(1, "expired", now=lambda: FROZEN_MOMENT, frozen=True, history_seconds=5)
    async with driven(source) as made:
        await made.press("5", "t", *"10.31.4.9", "enter")
        assert "10.31.4.9 api      DENIED   staged: ALLOWED" in made.text()


class Hostile(DemoSource):
    """A source whose every name is meant to harm the terminal."""

    def __init__(self) -> None:
        super().__init__(1, "calm", now=lambda: FROZEN_MOMENT, frozen=True, history_seconds=5)

    async def history(self, seconds: float) -> Sequence[Snapshot]:
        return ()

    async def updates(self) -> AsyncGenerator[Update, None]:
        model = ModelFigures(id=HOSTILE, state="failed", reason=HOSTILE, aliases=(HOSTILE,))
        async for update in super().updates():
            assert update.snapshot is not None
            yield Update(
                snapshot=replace(update.snapshot, host_name=HOSTILE, models=(model,)),
                requests=(_hostile(update.requests[0]),),
                logs=(LogLine(time=0.0, level="error", logger=HOSTILE, message=HOSTILE),),
            )

    async def ask(self, path: str, **query: str | int | None) -> Any:
        if path == "/keys":
            return [{"kid": HOSTILE, "principal": HOSTILE, "state": "active"}]
        raise SourceLost(HOSTILE)


def _hostile(record: RequestRecord) -> RequestRecord:
    return replace(record, model=HOSTILE, principal=HOSTILE, path=HOSTILE, id=HOSTILE)


@pytest.mark.parametrize("size", [(80, 24), pytest.param((160, 45), marks=pytest.mark.slow)])
async def test_names_neither_drive_the_terminal_nor_are_markup(size: tuple[int, int]) -> None:
    async with driven(Hostile(), size=size) as made:
        for key in "1234567":
            await made.press(key)
            shown = made.text()
            assert "\x1b" not in shown
            assert "\x07" not in shown
            assert made.app.is_running
        await made.press("7")
        assert "[@click=app.quit]x[/]" in made.text()


@pytest.mark.slow
async def test_lost_sources_are_tried_again() -> None:
    class Flaky(DemoSource):
        tries = 0

        async def identity(self) -> Any:
            self.tries += 1
            if self.tries == 1:
                raise SourceLost("connection refused")
            return await super().identity()

    source = Flaky(1, "calm", now=lambda: FROZEN_MOMENT, frozen=True, history_seconds=5)
    async with driven(source) as made:
        assert source.tries == 2
        assert "LIVE" in made.text()


async def test_the_snapshot_is_printed_for_scripts() -> None:
    from tui.once import as_json, first_snapshot

    board = await first_snapshot(frozen(), read_only=False)
    assert json.loads(as_json(board))["host_name"] == "appliance-01"


@pytest.mark.slow
async def test_the_recording_is_moved_through_and_left() -> None:
    async with driven(frozen("calm"), size=(100, 30)) as made:
        await made.press("t")
        await made.press("shift+tab", *"15m")
        await made.press("enter")
        await made.press("tab", "enter")
        assert "REPLAY 02:59" in made.text()
        assert "RO" in made.lines()[0]
        await made.press("[")
        assert "02:59:14" in made.lines()[0]
        await made.press("}", "]")
        assert "03:00:15" in made.lines()[0]
        # What has ended since then is not there yet.
        await made.press("3")
        assert len(requests_of(made).rows.ring) == 0
        # Out of what was fetched.
        await made.press(*("{" * 12))
        assert "REPLAY 02:48" in made.text()
        await made.press("R")
        assert "LIVE" in made.text()
        assert len(requests_of(made).rows.ring) > 0


def _only_file(folder: Path) -> list[str]:
    (path,) = folder.iterdir()
    return path.read_text("utf-8-sig").splitlines()


async def test_a_list_is_exported_as_it_is_filtered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with driven(frozen("slow"), size=(100, 30)) as made:
        await made.press("3", "slash")
        await typed(made, "st>=400")
        await made.press("enter")
        await made.press("e")
        rows, said = len(requests_of(made).rows.ring), made.lines()[-2]
    lines = _only_file(tmp_path)
    assert lines[0].startswith("TIME,ST,")
    assert len(lines) == 1 + rows
    assert f"{rows} rows in" in said


async def test_keys_can_be_others() -> None:
    async with driven(frozen("slow"), size=(100, 60)) as made:
        assert {"models.load", "app.pause", "list.down"} <= made.app.binding_ids()
        made.app.set_keymap({"app.pause": "P"})
        await made.press("P")
        assert made.app.board.paused
        await made.press("3", "question_mark")
        assert re.search(r"\| P +pause, or go on", made.text())


@pytest.mark.slow
async def test_the_key_of_a_request_is_shown_among_the_keys() -> None:
    async with driven(frozen("slow"), size=(100, 30)) as made:
        await made.press("3", "j")
        record = requests_of(made).rows.selected
        assert record is not None
        await made.press("i")
        assert "<4Keys>" in made.text()
        chosen = made.app.query_one(Keys).key_rows.selected
        assert chosen is not None
        assert chosen.kid == record.key_id


@pytest.mark.slow
async def test_what_is_staged_is_shown_in_full() -> None:
    async with driven(frozen(), size=(100, 30)) as made:
        await made.press("5", "v")
        shown = made.text()
        assert "+ 10.31.4.0/24  api  new RAG cluster" in shown
        assert re.search(r"- 10\.20\.99\.5/32 .* 311 requests in 24 h\.", shown)


@pytest.mark.slow
async def test_the_command_of_a_question_is_taken_along() -> None:
    async with driven(frozen("slow"), size=(100, 30)) as made:
        await made.press("2", "u")
        await made.press("y")
        assert made.app.clipboard == "appliance models unload qwen3-32b-q4_k_m --drain-seconds 30"
        # Where a name is typed, the letter is part of it.
        await made.press("shift+tab", *"my")
        assert "--reason my" in made.text()
        assert "--reason" not in made.app.clipboard
