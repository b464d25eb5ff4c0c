"""Overview: the whole appliance at one look."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message

from appliance.telemetry.request_record import RequestRecord
from appliance.telemetry.snapshot import ModelFigures
from tui.board import Board
from tui.drawing.disconnected import disconnected
from tui.drawing.frame import KeyHint
from tui.drawing.host import last_action
from tui.drawing.models import free_bytes
from tui.drawing.overview import Cursor, figures_of_before, overview
from tui.lines import Line
from tui.look import Look
from tui.messages import ShowText
from tui.proposals import models as proposals
from tui.screens.screen import DashboardScreen
from tui.widgets.lines_view import LinesView


class Overview(DashboardScreen):
    """Tab goes from the models to the failures; Enter opens what is under the cursor on its own screen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "move(1)", "down", show=False, id="list.down"),
        Binding("j", "down_or_journal", "down; disconnected: the journal", show=False, id="overview.j"),
        Binding("d", "diagnose", "disconnected: write a diagnose bundle", show=False, id="overview.diagnose"),
        Binding("h", "runbook", "disconnected: what to do", show=False, id="overview.runbook"),
        Binding("up,k", "move(-1)", "up", show=False, id="list.up"),
        Binding("tab,shift+tab", "pane", "the other pane", show=False, id="pane.next"),
        Binding("l", "load", "load this model", show=False, id="models.load"),
        Binding("u", "unload", "unload this model", show=False, id="models.unload"),
        Binding("enter", "open", "open it", show=False, id="list.open"),
    ]
    hints: ClassVar[tuple[KeyHint, ...]] = (
        KeyHint("?", "Help"),
        KeyHint("a", "Alerts"),
        KeyHint("l", "Load", role="operator"),
        KeyHint("u", "Unload", role="operator"),
        KeyHint("Tab", "Pane"),
        KeyHint("p", "Pause"),
        KeyHint("q", "Quit"),
        KeyHint("Enter", "Open", wide=True),
        KeyHint("+-", "Rate", wide=True),
    )

    class OpenRequest(Message):
        """A failure is to be shown among the requests."""

        def __init__(self, request_id: str) -> None:
            super().__init__()
            self.request_id = request_id

    class OpenModel(Message):
        """A model is to be shown on its screen."""

        def __init__(self, model: str) -> None:
            super().__init__()
            self.model = model

    class Diagnose(Message):
        """A diagnose bundle is to be written."""

    class Runbook(Message):
        """What to do while the appliance does not answer."""

    def __init__(self, look: Look, board: Board) -> None:
        super().__init__(look, board, id="overview")
        self.cursor = Cursor()
        self._now = 0.0
        # The app fills it: the newest requests of the list that the Requests screen keeps.
        self.tail: tuple[RequestRecord, ...] = ()

    def compose(self) -> ComposeResult:
        """One block of lines."""
        yield LinesView(self.look, id="overview-body", can_focus=True)

    @property
    def _view(self) -> LinesView:
        return self.query_one("#overview-body", LinesView)

    def enter(self) -> None:
        """Keys come here."""
        self.screen.set_focus(self._view)

    def paint(self, now: float) -> None:
        """Draws it all; what has not changed is not sent to the terminal."""
        self._now = now
        view = self._view
        size = view.size
        if not size.width or not size.height:
            return
        board = self.board
        if board.lost is not None:
            before = figures_of_before(board.snapshot, board.trend, size.width, self.look, self.stale(now))
            rest = size.height - len(before)
            view.show([*before, *disconnected(board.surroundings, board.local, size.width, rest, self.look)])
        else:
            lines = overview(
                self.board.snapshot,
                self.board.trend,
                self.tail,
                self.cursor,
                size.width,
                size.height,
                self.look,
                self.stale(now),
            )
            view.show(lines)

    def status(self) -> Line:
        """What was done last."""
        return last_action(self.board.snapshot, self.look)

    def action_move(self, lines: int) -> None:
        """Moves the cursor in its pane."""
        snapshot = self.board.snapshot
        if snapshot is None:
            return
        if self.cursor.pane == "models":
            last = len(snapshot.models) - 1
            self.cursor = replace(self.cursor, models=max(0, min(last, self.cursor.models + lines)))
        else:
            last = len(snapshot.failures) - 1
            self.cursor = replace(self.cursor, failures=max(0, min(last, self.cursor.failures + lines)))
        self.paint(self._now)

    def action_down_or_journal(self) -> None:
        """Down; the journal where it does not answer."""
        if self.board.lost is None:
            self.action_move(1)
            return
        found = self.board.surroundings
        self.post_message(ShowText(self.look.say("Last journal lines"), "\n".join(found.journal if found else ())))

    def action_diagnose(self) -> None:
        """A bundle for somebody who helps from elsewhere."""
        if self.board.lost is not None:
            self.post_message(self.Diagnose())

    def action_runbook(self) -> None:
        """What to do now."""
        if self.board.lost is not None:
            self.post_message(self.Runbook())

    def action_pane(self) -> None:
        """To the other pane."""
        self.cursor = replace(self.cursor, pane="failures" if self.cursor.pane == "models" else "models")
        self.paint(self._now)

    def action_load(self) -> None:
        """The model under the cursor."""
        if (model := self._model) is not None and model.state in ("stopped", "failed"):
            snapshot = self.board.snapshot
            self.propose(proposals.load(model, None if snapshot is None else free_bytes(snapshot)))
        else:
            self.say("choose a model that is not loaded")

    def action_unload(self) -> None:
        """The model under the cursor."""
        if (model := self._model) is not None and model.state not in ("stopped", "failed"):
            self.propose(proposals.unload(model))
        else:
            self.say("choose a model that is loaded")

    @property
    def _model(self) -> ModelFigures | None:
        models = () if self.board.snapshot is None else self.board.snapshot.models
        chosen = self.cursor.models
        return models[chosen] if self.cursor.pane == "models" and 0 <= chosen < len(models) else None

    def action_open(self) -> None:
        """Shows what is under the cursor on its own screen."""
        snapshot = self.board.snapshot
        if snapshot is None:
            return
        if self.cursor.pane == "failures" and self.cursor.failures < len(snapshot.failures):
            self.post_message(self.OpenRequest(snapshot.failures[self.cursor.failures].request_id))
        elif self.cursor.pane == "models" and self.cursor.models < len(snapshot.models):
            self.post_message(self.OpenModel(snapshot.models[self.cursor.models].id))
