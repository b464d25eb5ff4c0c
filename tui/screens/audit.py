"""Audit: who did what, as the audit log has it."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import Input

from tui import units
from tui.admin_data import AuditRow, moment, read
from tui.board import Board
from tui.drawing.frame import KeyHint
from tui.lines import Line, Role, fitted, line, shorten
from tui.look import Look
from tui.proposals.others import verify
from tui.screens.asking import Ask, AskingScreen
from tui.widgets.columns import Column
from tui.widgets.filter_input import FilterInput
from tui.widgets.lines_view import LinesView
from tui.widgets.virtual_log import VirtualLog
from tui.word_filter import WordFilterError, word_filter

_ROWS_MAX: Final = 10_000
_QUESTION: Final = "/audit/records"


class Audit(AskingScreen):
    """Only auditors are answered; anybody else is told so."""

    questions: ClassVar[tuple[str, ...]] = (_QUESTION,)
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "filter", show=False, id="audit.filter"),
        Binding("escape", "clear", "leave the filter, or clear it", show=False, id="audit.clear"),
        Binding("v", "verify", "verify the chain", show=False, id="audit.verify"),
    ]
    hints: ClassVar[tuple[KeyHint, ...]] = (
        KeyHint("?", "Help"),
        KeyHint("/", "Filter"),
        KeyHint("v", "Verify", role="auditor"),
        KeyHint("a", "Alerts"),
        KeyHint("p", "Pause"),
        KeyHint("q", "Quit"),
    )

    def __init__(self, look: Look, board: Board, ask: Ask) -> None:
        super().__init__(look, board, ask, id="audit")
        self._wrong: str | None = None
        self.rows: VirtualLog[AuditRow] = VirtualLog(
            self._columns(), look, rows_max=_ROWS_MAX, identity=lambda row: row.seq, id="audit-rows"
        )
        self.rows.empty = [line((f"  {look.say('No records')}", "dim"))]

    def compose(self) -> ComposeResult:
        """Filter, list, detail."""
        with Horizontal(id="audit-filter"):
            yield LinesView(self.look, id="audit-slash")
            yield FilterInput(id="audit-input")
            yield LinesView(self.look, id="audit-chain")
        yield self.rows
        yield LinesView(self.look, id="audit-detail")

    def enter(self) -> None:
        """Keys come to the list."""
        self.screen.set_focus(self.rows)

    def paint(self, now: float) -> None:
        """Asks where it is time to."""
        self.ask_again(now)
        self.query_one("#audit-slash", LinesView).show([line(" / ")])
        snapshot = self.board.snapshot
        chain: Line = ()
        if snapshot is not None:
            records = units.thousands(snapshot.audit.records)
            chain = (
                line((f"{self.look.say('TROUBLE')}: {snapshot.audit.trouble[0]} ", "bad"))
                if snapshot.audit.trouble
                else line(f"{self.look.say('chain at')} #{records} ")
            )
        self.query_one("#audit-chain", LinesView).show([chain])
        self._show_detail()

    def status(self) -> Line:
        """What was wrong."""
        if self._wrong is not None:
            return line((f" {self._wrong}", "bad"))
        if self.trouble is not None:
            return line((f" {self.trouble}", "warn"))
        return line((f" {self.look.say('v verifies the chain')}", "dim"))

    def answered(self, path: str, answer: Any) -> None:
        """Records, newest first."""
        self.rows.replace(read(tuple[AuditRow, ...], answer))

    def action_filter(self) -> None:
        """To the filter."""
        self.screen.set_focus(self.query_one(FilterInput))

    def action_clear(self) -> None:
        """From the filter to the list; from the list, without a filter."""
        field = self.query_one(FilterInput)
        if field.has_focus:
            self.screen.set_focus(self.rows)
        else:
            field.value = ""

    def action_verify(self) -> None:
        """Every record and seal."""
        self.propose(verify())

    def commands(self) -> tuple[tuple[str, str], ...]:
        """What its keys do, by name."""
        return (("Verify the audit log", "on_screen('verify')"),)

    def on_input_changed(self, message: Input.Changed) -> None:
        """Filters while it is typed."""
        message.stop()
        try:
            matches = word_filter(message.value, _FIELDS)
        except WordFilterError as error:
            self._wrong = str(error)
            return
        self._wrong = None
        self.rows.select(matches)

    def on_input_submitted(self, message: Input.Submitted) -> None:
        """Back to the list."""
        message.stop()
        self.screen.set_focus(self.rows)

    def on_virtual_log_moved(self, message: VirtualLog.Moved) -> None:
        """The detail is of the row under the cursor."""
        message.stop()
        self._show_detail()

    def _show_detail(self) -> None:
        view = self.query_one("#audit-detail", LinesView)
        row = self.rows.selected
        width = view.size.width
        if row is None:
            view.show([])
            return
        look = self.look
        actor = row.actor
        rule = f"{look.glyphs.rule * 2} #{row.seq} "
        details = "  ".join(f"{name}={value}" for name, value in row.details.items())
        lines = [
            line((rule + look.glyphs.rule * max(0, width - len(rule)), "dim")),
            line(f" {details or look.say('no details')}   {look.say('request')} {row.request_id or units.NONE}"),
            line(
                f' {look.say("reason")} "{row.reason or ""}"   uid {units.NONE if actor.uid is None else actor.uid}'
                f"  {look.say('role')} {actor.role or units.NONE}"
                f"  {look.say('credential')} {actor.credential or units.NONE}"
                f"  {look.say('address')} {actor.address or units.NONE}"
            ),
            line((f" prev {row.prev[:8]}..{row.prev[-4:]}" if row.prev else "", "dim")),
        ]
        view.show([fitted(one, width) for one in lines])

    def _columns(self) -> tuple[Column[AuditRow], ...]:
        look = self.look
        cut = look.glyphs.cut
        return (
            Column("#", 7, lambda row: str(row.seq)),
            Column("TIME", 8, lambda row: units.clock(moment(row.ts) or 0.0, look.zone)),
            Column("ACTOR", 8, lambda row: row.actor.principal or "?", width_max=20),
            Column("VIA", 5, _via, rank=1),
            Column("ACTION", 16, lambda row: row.action, width_max=24),
            Column("TARGET", 18, lambda row: shorten(row.resource or units.NONE, 60, cut), width_max=60),
            Column("RESULT", 10, _result, role=_role, width_max=14),
        )


def _via(row: AuditRow) -> str:
    return "unix" if row.actor.uid is not None else "mtls" if row.actor.credential else units.NONE


def _result(row: AuditRow) -> str:
    word = "DENIED" if row.outcome == "deny" else row.outcome
    return word if row.milliseconds is None else f"{word} {units.seconds(row.milliseconds / 1000)}"


def _role(row: AuditRow) -> Role:
    return "bad" if row.outcome in ("deny", "failed") else ""


_FIELDS: Final = {
    "actor": lambda row: row.actor.principal or "",
    "action": lambda row: row.action,
    "target": lambda row: row.resource or "",
    "outcome": lambda row: row.outcome,
    "reason": lambda row: row.reason or "",
}
