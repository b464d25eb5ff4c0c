"""Allowlist: who may connect, what is staged, and whether one address may."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Input

from tui import units
from tui.admin_data import AddressTest, AllowEntry, Allowlist, DeniedRow, moment, read
from tui.board import Board
from tui.drawing.frame import KeyHint
from tui.lines import Line, Role, line
from tui.look import Look
from tui.messages import ShowText
from tui.proposals import allow as proposals
from tui.screens.asking import Ask, AskingScreen
from tui.sentence import sentence
from tui.widgets.columns import Column
from tui.widgets.filter_input import FilterInput
from tui.widgets.lines_view import LinesView
from tui.widgets.virtual_log import VirtualLog

_ROWS_MAX: Final = 20_000
_DENIED: Final = "/allowlist/denied"
_SOON_SECONDS: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class AllowRow:
    """An entry, and whether it is staged to come or to go."""

    sign: Literal["", "+", "-"]
    entry: AllowEntry


class Allow(AskingScreen):
    """Edits are staged; they count when they are applied, on trial, and go again unless they are kept."""

    questions: ClassVar[tuple[str, ...]] = ("/allowlist", _DENIED)
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab,shift+tab", "pane", "the other pane", show=False, id="pane.next"),
        Binding("t", "test", "test an address", show=False, id="allow.test"),
        Binding("escape", "back", "back to the list", show=False, id="allow.back"),
        Binding("a", "add", "stage an entry; let in who was denied", show=False, id="allow.add"),
        Binding("e", "edit", "stage another note or end for it", show=False, id="allow.edit"),
        Binding("x", "remove", "stage that it goes", show=False, id="allow.remove"),
        Binding("v", "diff", "what is staged, in full", show=False, id="allow.diff"),
        Binding("A", "apply", "apply what is staged", show=False, id="allow.apply"),
        Binding("K", "keep", "keep what is on trial", show=False, id="allow.keep"),
        Binding("U", "discard", "discard what is staged, undo what is on trial", show=False, id="allow.discard"),
    ]
    hints: ClassVar[tuple[KeyHint, ...]] = (
        KeyHint("?", "Help"),
        KeyHint("Tab", "Pane"),
        KeyHint("t", "Test"),
        KeyHint("a", "Add", role="security"),
        KeyHint("x", "Remove", role="security"),
        KeyHint("A", "Apply", role="security"),
        KeyHint("K", "Keep", role="security"),
        KeyHint("U", "Undo", role="security"),
        KeyHint("v", "Diff", wide=True),
        KeyHint("p", "Pause", wide=True),
        KeyHint("q", "Quit", wide=True),
    )

    def __init__(self, look: Look, board: Board, ask: Ask, *, wall: Callable[[], float]) -> None:
        super().__init__(look, board, ask, id="allow")
        self._wall = wall
        self._found = Allowlist()
        self._tested: AddressTest | None = None
        self._wrong = False
        self.rows: VirtualLog[AllowRow] = VirtualLog(
            self._columns(),
            look,
            rows_max=_ROWS_MAX,
            identity=lambda row: (row.sign, row.entry.network, row.entry.listener),
            id="allow-rows",
        )
        self.denied: VirtualLog[DeniedRow] = VirtualLog(
            self._denied_columns(),
            look,
            rows_max=_ROWS_MAX,
            identity=lambda row: (row.address, row.listener),
            id="denied-rows",
        )

    def compose(self) -> ComposeResult:
        """What is staged, the list, who was denied, the tester."""
        yield LinesView(self.look, id="allow-title")
        yield self.rows
        yield LinesView(self.look, id="denied-title")
        yield self.denied
        yield LinesView(self.look, id="allow-lower")
        yield FilterInput(id="allow-input")
        yield LinesView(self.look, id="allow-verdict")

    def enter(self) -> None:
        """Keys come to the list."""
        self.screen.set_focus(self.rows)

    def paint(self, now: float) -> None:
        """Asks where it is time to."""
        self.ask_again(now)
        look = self.look
        none = look.say("The list is empty: only this host may connect.")
        self.rows.empty = self.no_rows("/allowlist", none)
        staged = self._found.staged
        if self._found.trial is not None:
            left = max(0, round((moment(self._found.trial.revert_at) or 0.0) - self._wall()))
            title = line(
                (f" {look.say('ON TRIAL: undone in')} {left} s   ", "bad"),
                (look.say("K keeps it   U undoes it"), "warn"),
            )
        elif staged.add or staged.remove:
            counts = f"{len(staged.add)} {look.say('added')}, {len(staged.remove)} {look.say('removed')}"
            keys = look.say("A apply   U discard")
            title = line((f" {look.say('STAGED, NOT ACTIVE')}: {counts}   ", "warn"), (keys, "accent"))
        else:
            title = line(f" {len(self._found.entries)} {look.say('entries')}") if self.knows("/allowlist") else ()
        self.query_one("#allow-title", LinesView).show([title])
        width = self.size.width
        denied = "".join(
            f"   {one.name} {units.thousands(one.denied_address)}"
            for one in (() if self.board.snapshot is None else self.board.snapshot.listeners)
        )
        self.denied.empty = self.no_rows(_DENIED, look.say("Nobody was turned away"))
        self.query_one("#denied-title", LinesView).show(
            [
                ((look.glyphs.rule * width, "dim"),),
                line(
                    (f" {look.say('DENIED, last hour')}", "head"),
                    (f"   {look.say('since the start')}:{denied}" if denied else "", "dim"),
                ),
            ]
        )
        self.query_one("#allow-lower", LinesView).show(
            [
                line((f" {look.say('TEST ADDRESS')}", "head"), f"  t, {look.say('then Enter')}:"),
            ]
        )
        self._show_verdict()

    def status(self) -> Line:
        """How entries are changed."""
        if self.trouble is not None:
            return line((f" {self.trouble}", "warn"))
        for said in proposals.fenced(self._found.fenced):
            return line((f" ! {self.look.say(said)}", "warn"))
        return line((f" {self.look.say('edits are staged; nothing changes until A')}", "dim"))

    def action_test(self) -> None:
        """To the tester."""
        self.screen.set_focus(self.query_one(FilterInput))

    def action_pane(self) -> None:
        """To the other list."""
        self.screen.set_focus(self.denied if self.rows.has_focus else self.rows)

    def action_back(self) -> None:
        """To the list."""
        self.screen.set_focus(self.rows)

    def action_add(self) -> None:
        """Who was denied, where the cursor is there; else the address that was tested, or another one."""
        if self.denied.has_focus and (row := self.denied.selected) is not None:
            self.propose(proposals.add(row.address, row.listener))
            return
        tested = "" if self._tested is None or any(self._tested.now.values()) else self._tested.address
        self.propose(proposals.add(tested))

    def action_edit(self) -> None:
        """The note and the end of the entry under the cursor."""
        row = self._changeable()
        if row is not None:
            self.propose(proposals.edit(row.entry))

    def action_remove(self) -> None:
        """The entry under the cursor."""
        row = self._changeable()
        if row is not None:
            self.propose(proposals.remove(row.entry))

    def _changeable(self) -> AllowRow | None:
        """The entry under the cursor, where a change of it can be staged; says why it cannot."""
        row = self.rows.selected
        if self.denied.has_focus:
            self.say("this one is in no list: Tab goes to the entries")
        elif row is None:
            return None
        elif row.sign:
            self.say("this one is staged: U discards all that is")
        elif row.entry.origin == "appliance.yaml":
            self.say("this entry is of appliance.yaml: change it there, then appliance reload")
        else:
            return row
        return None

    def action_apply(self) -> None:
        """On trial."""
        staged = self._found.staged
        if self._found.trial is not None:
            self.say("something is on trial already: K keeps it, U undoes it")
        elif not staged.add and not staged.remove:
            self.say("nothing is staged")
        else:
            self.propose(proposals.apply(self._found))

    def action_diff(self) -> None:
        """What would come and go, entry by entry, with all that is known of it."""
        staged = self._found.staged
        lines = [
            f"{sign} {one.network}  {one.listener or self.look.say('every')}  {one.comment}"
            f"  {self._until(one)}  {self._hits(one)}".rstrip()
            for sign, entries in (("-", staged.remove), ("+", staged.add))
            for one in entries
        ]
        if lines:
            self.post_message(ShowText(self.look.say("STAGED, NOT ACTIVE"), "\n".join(lines)))
        else:
            self.say("nothing is staged")

    def _until(self, entry: AllowEntry) -> str:
        until = (entry.until or "")[:16].replace("T", " ")
        return self.look.say(sentence("until {until} UTC", until=until)) if until else ""

    def _hits(self, entry: AllowEntry) -> str:
        return "" if entry.hits is None else self.look.say(sentence("{count} requests in 24 h.", count=entry.hits))

    def action_keep(self) -> None:
        """For good."""
        if self._found.trial is None:
            self.say("nothing is on trial")
        else:
            self.propose(proposals.keep())

    def action_discard(self) -> None:
        """What is on trial, else what is staged."""
        staged = self._found.staged
        if self._found.trial is not None:
            self.propose(proposals.revert())
        elif staged.add or staged.remove:
            self.propose(proposals.discard())
        else:
            self.say("nothing is staged")

    def commands(self) -> tuple[tuple[str, str], ...]:
        """What its keys do, by name."""
        return (
            ("Test an address", "on_screen('test')"),
            ("Stage an entry, let in who was denied", "on_screen('add')"),
            ("Edit the note or the end of this entry", "on_screen('edit')"),
            ("What is staged, in full", "on_screen('diff')"),
            ("Apply what is staged", "on_screen('apply')"),
            ("Keep what is on trial", "on_screen('keep')"),
            ("Discard or undo", "on_screen('discard')"),
        )

    def on_input_submitted(self, message: Input.Submitted) -> None:
        """Tests the address."""
        message.stop()
        try:
            address = ipaddress.ip_address(message.value.strip())
        except ValueError:
            self._tested, self._wrong = None, True
        else:
            self._wrong = False
            self.ask(f"/allowlist/test?address={address}")
        self._show_verdict()
        self.screen.set_focus(self.rows)

    def answered(self, path: str, answer: Any) -> None:
        """The list, or whether an address may connect."""
        if path == _DENIED:
            self.denied.replace(read(tuple[DeniedRow, ...], answer))
            return
        if path != "/allowlist":
            self._tested = read(AddressTest, answer)
            self._show_verdict()
            return
        self._found = read(Allowlist, answer)
        gone = {(entry.network, entry.listener) for entry in self._found.staged.remove}
        rows = [
            AllowRow("-" if (entry.network, entry.listener) in gone else "", entry) for entry in self._found.entries
        ]
        self.rows.replace([*rows, *(AllowRow("+", entry) for entry in self._found.staged.add)])

    def _show_verdict(self) -> None:
        look = self.look
        lines: list[Line] = []
        if self._wrong:
            lines.append(line((f"   {look.say('this is no address')}", "bad")))
        elif self._tested is not None:
            for listener, allowed in self._tested.now.items():
                staged = self._tested.staged.get(listener, allowed)
                said: tuple[str, Role] = (look.say("ALLOWED"), "good") if allowed else (look.say("DENIED"), "bad")
                after = (
                    ""
                    if staged == allowed
                    else f"   {look.say('staged')}: {look.say('ALLOWED' if staged else 'DENIED')}"
                )
                lines.append(line(f"   {self._tested.address} {listener:<8} ", said, after))
            lines += [line((f"   {look.say(said)}", "warn")) for said in proposals.fenced(self._tested.fenced)]
        self.query_one("#allow-verdict", LinesView).show(lines)

    def _columns(self) -> tuple[Column[AllowRow], ...]:
        look = self.look
        return (
            Column("", 1, lambda row: row.sign, role=_role),
            Column("CIDR", 18, lambda row: row.entry.network, width_max=40, role=_role),
            Column("LISTENER", 8, lambda row: row.entry.listener or look.say("every"), width_max=12),
            Column("NOTE", 16, lambda row: row.entry.comment or units.NONE, width_max=40),
            Column("BY", 6, self._by, width_max=16, rank=1),
            Column("ADDED", 10, self._added, rank=4),
            Column("ENDS", 7, self._end, role=self._end_role),
            Column("HITS 24H", 8, lambda row: units.count(row.entry.hits), "right", rank=2),
            Column("LAST", 6, self._last, rank=3),
        )

    def _by(self, row: AllowRow) -> str:
        return "yaml" if row.entry.origin == "appliance.yaml" else row.entry.added_by or units.NONE

    def _added(self, row: AllowRow) -> str:
        return self.look.say("staged") if row.sign == "+" else (row.entry.added_at or units.NONE)[:10]

    def _end(self, row: AllowRow) -> str:
        if row.entry.ended:
            return self.look.say("expired")
        end = moment(row.entry.until)
        return units.NONE if end is None else units.duration(max(0.0, end - self._wall()))

    def _end_role(self, row: AllowRow) -> Role:
        end = moment(row.entry.until)
        if row.entry.ended:
            return "bad"
        return "warn" if end is not None and end - self._wall() < _SOON_SECONDS else ""

    def _denied_columns(self) -> tuple[Column[DeniedRow], ...]:
        return (
            Column("ADDRESS", 18, lambda row: row.address, width_max=40),
            Column("LISTENER", 8, lambda row: row.listener, width_max=12),
            Column("DENIED", 8, lambda row: units.thousands(row.denied), "right"),
            Column("LAST", 10, lambda row: self._ago(row.last_seen)),
        )

    def _ago(self, text: str | None) -> str:
        seen = moment(text)
        return units.NONE if seen is None else self.look.ago(max(0.0, self._wall() - seen))

    def _last(self, row: AllowRow) -> str:
        if (seen := moment(row.entry.last_seen)) is not None:
            return units.duration(max(0.0, self._wall() - seen))
        return units.NONE if row.entry.hits is None else self.look.say("never")


def _role(row: AllowRow) -> Role:
    return "good" if row.sign == "+" else "bad" if row.sign == "-" else ""
