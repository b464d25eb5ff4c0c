"""Models: what is loaded, what it holds, and whether the one under the cursor would fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from appliance.admin_client import route
from appliance.telemetry.snapshot import ModelFigures
from tui import units
from tui.admin_data import Preflight, read
from tui.board import Board
from tui.drawing.box import level
from tui.drawing.frame import KeyHint
from tui.drawing.models import STATE_WORDS, free_bytes, held_bytes, state_role
from tui.drawing.preflight import model_panel
from tui.lines import Line, fit, line
from tui.look import Look
from tui.proposals import models as proposals
from tui.screens.asking import Ask, AskingScreen
from tui.widgets.columns import Column
from tui.widgets.lines_view import LinesView
from tui.widgets.virtual_log import VirtualLog

_MODELS_MAX: Final = 512
_PROGRESS_CELLS: Final = 26
_SORTS: Final = ("", "NAME", "MEM", "TOK/S", "IDLE")


@dataclass(frozen=True, slots=True)
class Progress:
    """The line under a model that is being loaded."""

    model: ModelFigures


ModelRow = ModelFigures | Progress


class Models(AskingScreen):
    """Preflight is asked for when the cursor comes to a model that is not loaded."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "sort", "sort by the next column", show=False, id="models.sort"),
        Binding("v", "preflight", "ask again whether it fits", show=False, id="models.preflight"),
        Binding("l", "load", "load it", show=False, id="models.load"),
        Binding("u", "unload", "unload it", show=False, id="models.unload"),
        Binding("P", "pin", "pin it, or unpin it", show=False, id="models.pin"),
        Binding("i", "app.stored", "imported models: verify, remove", show=False, id="models.stored"),
        Binding("A", "apply", "apply models.yaml", show=False, id="models.apply"),
    ]
    hints: ClassVar[tuple[KeyHint, ...]] = (
        KeyHint("?", "Help"),
        KeyHint("l", "Load", role="operator"),
        KeyHint("u", "Unload", role="operator"),
        KeyHint("P", "Pin", role="operator"),
        KeyHint("A", "Apply", role="operator"),
        KeyHint("s", "Sort"),
        KeyHint("a", "Alerts"),
        KeyHint("i", "Imported", wide=True),
        KeyHint("v", "Fit again", wide=True),
        KeyHint("p", "Pause", wide=True),
        KeyHint("q", "Quit", wide=True),
    )

    def __init__(self, look: Look, board: Board, ask: Ask) -> None:
        super().__init__(look, board, ask, id="models")
        self._sort = 0
        self._preflights: dict[str, Preflight] = {}
        self._asked_for: str | None = None
        self.rows: VirtualLog[ModelRow] = VirtualLog(
            self._columns(), look, rows_max=_MODELS_MAX, identity=_identity, free=self._free, id="models-rows"
        )

    def compose(self) -> ComposeResult:
        """List and panel."""
        yield self.rows
        yield LinesView(self.look, id="models-panel")

    def enter(self) -> None:
        """Keys come to the list."""
        self.screen.set_focus(self.rows)

    def paint(self, now: float) -> None:
        """Draws the list anew."""
        snapshot = self.board.snapshot
        models = () if snapshot is None else snapshot.models
        rows: list[ModelRow] = []
        for model in self._sorted(models):
            rows.append(model)
            if model.state == "starting":
                rows.append(Progress(model))
        self.rows.empty = [
            line(
                ("  " + self.look.say("No model yet. Add one to models.yaml, or: appliance models import FILE"), "dim")
            )
        ]
        self.rows.replace(rows)
        self._show_panel()

    def status(self) -> Line:
        """What was wrong with the last question."""
        if self.trouble is not None:
            return line((f" {self.trouble}", "warn"))
        loading = (
            [] if self.board.snapshot is None else [m for m in self.board.snapshot.models if m.state == "starting"]
        )
        return line(f" {self.look.say('loading')} {loading[0].id}") if loading else ()

    def find(self, model: str) -> None:
        """Puts the cursor on a model."""
        found = self.rows.ring.find(0, 1, lambda row: _identity(row) == model)
        if found is not None:
            self.rows.go(found)

    def action_sort(self) -> None:
        """By the next column."""
        self._sort = (self._sort + 1) % len(_SORTS)
        self.paint(0.0)

    def action_load(self) -> None:
        """Loads the model under the cursor."""
        model = self._chosen
        if model is None:
            return
        if model.state in ("ready", "starting"):
            self.say("it is loaded already" if model.state == "ready" else "it is being loaded")
            return
        free = None if self.board.snapshot is None else free_bytes(self.board.snapshot)
        known = self._preflights.get(route("instances", model.id, "preflight"))
        self.propose(proposals.load(model, free, known))

    def action_unload(self) -> None:
        """Unloads the model under the cursor."""
        model = self._chosen
        if model is None:
            return
        if model.state in ("stopped", "failed"):
            self.say("it is not loaded")
            return
        self.propose(proposals.unload(model))

    def action_pin(self) -> None:
        """Pins the model under the cursor, or unpins it."""
        if self._chosen is not None:
            self.propose(proposals.pin(self._chosen))

    def action_apply(self) -> None:
        """Serves what models.yaml says now."""
        self.propose(proposals.apply())

    @property
    def _chosen(self) -> ModelFigures | None:
        row = self.rows.selected
        return row.model if isinstance(row, Progress) else row

    def commands(self) -> tuple[tuple[str, str], ...]:
        """What its keys do, by name."""
        return (
            ("Load this model", "on_screen('load')"),
            ("Unload this model", "on_screen('unload')"),
            ("Pin or unpin this model", "on_screen('pin')"),
            ("Apply models.yaml", "on_screen('apply')"),
        )

    def action_preflight(self) -> None:
        """Asks again whether it would fit."""
        self._asked_for = None
        self._show_panel()

    def on_virtual_log_moved(self, message: VirtualLog.Moved) -> None:
        """The panel is of the model under the cursor."""
        message.stop()
        self._show_panel()

    def answered(self, path: str, answer: Any) -> None:
        """Whether a model would fit."""
        self._preflights[path] = read(Preflight, answer)
        self._show_panel()

    def _show_panel(self) -> None:
        model = self._chosen
        preflight = None
        if model is not None and model.state in ("stopped", "failed"):
            path = route("instances", model.id, "preflight")
            preflight = self._preflights.get(path)
            if self._asked_for != path and self.board.lost is None:
                self._asked_for = path
                self.ask(path)
        view = self.query_one("#models-panel", LinesView)
        view.show(model_panel(model, preflight, self.board.snapshot, view.size.width, self.look))

    def _sorted(self, models: tuple[ModelFigures, ...]) -> list[ModelFigures]:
        match _SORTS[self._sort]:
            case "NAME":
                return sorted(models, key=lambda model: model.id)
            case "MEM":
                return sorted(models, key=lambda model: -(held_bytes(model) or 0))
            case "TOK/S":
                return sorted(models, key=lambda model: -_speed(model))
            case "IDLE":
                return sorted(models, key=lambda model: -(model.idle_seconds or 0.0))
            case _:
                return list(models)

    def _free(self, row: ModelRow) -> Line | None:
        if isinstance(row, Progress):
            model = row.model
            bar = level(model.progress, _PROGRESS_CELLS, self.look.glyphs)
            return line("  ", bar, f" {units.share(model.progress)}  {_eta(model, self.look)}")
        if row.state == "failed":
            name = fit(row.id, self.rows.width_of("NAME"))
            state = fit(self.look.say(STATE_WORDS[row.state]), self.rows.width_of("STATE"))
            return line(f"{name} ", (f"{state} {row.reason or ''}", "bad"))
        return None

    def _columns(self) -> tuple[Column[ModelRow], ...]:
        def column(
            title: str, width: int, of: Any, align: Any = "left", most: int = 0, rank: int = 0, role: Any = None
        ) -> Column[ModelRow]:
            return Column(
                title,
                width,
                lambda row: "" if isinstance(row, Progress) else of(row),
                align=align,
                width_max=most,
                rank=rank,
                role=None if role is None else lambda row: "" if isinstance(row, Progress) else role(row),
            )

        look = self.look
        return (
            column("NAME", 17, lambda m: m.id, most=32),
            column("STATE", 7, lambda m: look.say(STATE_WORDS[m.state]), role=state_role, most=8),
            column("SLOTS", 5, lambda m: f"{m.running}/{m.slots}" if _on(m) and m.slots else units.NONE),
            column("WAIT", 4, lambda m: str(m.waiting) if _on(m) else units.NONE, "right", rank=3),
            column("KV", 4, lambda m: units.share(m.kv_used) if _on(m) else units.NONE, "right"),
            column("MEM", 6, lambda m: units.short_gib(held_bytes(m)), "right"),
            column("TOK/S", 6, lambda m: units.rate(_speed(m) or None), "right"),
            column("TTFT95", 6, _ttft, "right", rank=4),
            column("IDLE", 5, lambda m: units.duration(m.idle_seconds) if m.idle_seconds else units.NONE, "right"),
            column("QUANT", 7, _quantisation, rank=1, most=8),
            column("CTX", 4, lambda m: units.context(m.n_ctx), "right", rank=2),
            column("PIN", 3, lambda m: look.say("yes") if m.pinned else units.NONE),
        )


def _identity(row: ModelRow) -> str:
    return f"{row.model.id}/progress" if isinstance(row, Progress) else row.id


def _on(model: ModelFigures) -> bool:
    return model.state in ("ready", "draining")


def _speed(model: ModelFigures) -> float:
    return model.serving.completion_tokens_per_second if model.serving else 0.0


def _ttft(model: ModelFigures) -> str:
    return units.seconds(model.serving.ttft.p95) if model.serving else units.NONE


def _quantisation(model: ModelFigures) -> str:
    """The last word of a description is the type of its weights."""
    return (model.description or units.NONE).split()[-1]


def _eta(model: ModelFigures, look: Look) -> str:
    if not model.progress or model.load_seconds is None:
        return ""
    return f"{units.duration(model.load_seconds * (1 - model.progress))} {look.say('left')}"
