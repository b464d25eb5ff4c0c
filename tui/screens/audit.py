"""Audit: who did what, as the audit log has it."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from tui import units
from tui.admin_data import AuditRow, moment, read
from tui.board import Board
from tui.drawing.audit_detail import audit_lines
from tui.drawing.frame import KeyHint
from tui.lines import Line, Role, line, shorten
from tui.look import Look
from tui.proposals.others import verify
from tui.screens.asking import Ask, AskingScreen
from tui.screens.filtered import FilteredScreen, filter_keys
from tui.widgets.columns import Column
from tui.widgets.lines_view import LinesView
from tui.widgets.virtual_log import VirtualLog
from tui.word_filter import word_filter

_ROWS_MAX: Final = 10_000
_QUESTION: Final = "/audit/records"


class Audit(AskingScreen, FilteredScreen):
    """Only auditors are answered; anybody else is told so."""

    questions: ClassVar[tuple[str, ...]] = (_QUESTION,)
    BINDINGS: ClassVar[list[BindingType]] = [
        *filter_keys("audit"),
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
        self.rows: VirtualLog[AuditRow] = VirtualLog(
            self._columns(), look, rows_max=_ROWS_MAX, identity=lambda row: row.seq, id="audit-rows"
        )

    def compose(self) -> ComposeResult:
        """Filter, list, detail."""
        yield from super().compose()
        yield LinesView(self.look, id="audit-detail")

    def paint(self, now: float) -> None:
        """Asks where it is time to."""
        self.ask_again(now)
        self.rows.empty = self.no_rows(_QUESTION, self.look.say("No records"))
        super().paint(now)
        self._show_detail()

    def beside(self) -> Line:
        """How far the chain has come, or what is wrong with it."""
        snapshot = self.board.snapshot
        if snapshot is None:
            return ()
        if snapshot.audit.trouble:
            return line((f"{self.look.say('TROUBLE')}: {snapshot.audit.trouble[0]} ", "bad"))
        return line(f"{self.look.say('chain at')} #{units.thousands(snapshot.audit.records)} ")

    def status(self) -> Line:
        """What was wrong."""
        if self._wrong is not None:
            return super().status()
        if self.trouble is not None:
            return line((f" {self.trouble}", "warn"))
        return line((f" {self.look.say('v verifies the chain')}", "dim"))

    def answered(self, path: str, answer: Any) -> None:
        """Records, newest first."""
        self.rows.replace(read(tuple[AuditRow, ...], answer))

    def action_verify(self) -> None:
        """Every record and seal."""
        self.propose(verify())

    def commands(self) -> tuple[tuple[str, str], ...]:
        """What its keys do, by name."""
        return (("Verify the audit log", "on_screen('verify')"),)

    def narrow(self, text: str) -> None:
        """By words."""
        self.rows.select(word_filter(text, _FIELDS))

    def on_virtual_log_moved(self, message: VirtualLog.Moved) -> None:
        """The detail is of the row under the cursor."""
        message.stop()
        self._show_detail()

    def _show_detail(self) -> None:
        view = self.query_one("#audit-detail", LinesView)
        view.show(audit_lines(self.rows.selected, view.size.width, self.look))

    def _columns(self) -> tuple[Column[AuditRow], ...]:
        look = self.look
        return (
            Column("#", 7, lambda row: str(row.seq)),
            Column("TIME", 8, lambda row: units.clock(moment(row.ts) or 0.0, look.zone)),
            Column("ACTOR", 8, lambda row: row.actor.principal or "?", width_max=20),
            Column("VIA", 5, _via, rank=1),
            Column("ACTION", 16, lambda row: row.action, width_max=24),
            Column("TARGET", 18, lambda row: shorten(row.resource or units.NONE, 60, look.glyphs.cut), width_max=60),
            Column("RESULT", 10, lambda row: _result(row, look), role=_role, width_max=14),
        )


def _via(row: AuditRow) -> str:
    return "unix" if row.actor.uid is not None else "mtls" if row.actor.credential else units.NONE


def _result(row: AuditRow, look: Look) -> str:
    word = look.say("DENIED") if row.outcome == "deny" else row.outcome
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
