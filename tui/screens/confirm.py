"""Asks whether something is to be done: what it means, what must be typed, the command that does the same."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Final

from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widget import Widget
from textual.widgets import Input

from tui.lines import Line, cells, line
from tui.look import Look
from tui.proposals.proposal import Proposal
from tui.screens.modal import Button, Modal, folded
from tui.theme import ThemeName
from tui.widgets.filter_input import FilterInput
from tui.widgets.lines_view import LinesView

FILE_BYTES_MAX: Final = 1_000_000


class Confirm(Modal[dict[str, str]]):
    """Gives back what was filled in, by name; None where nothing is to be done.

    planned: what the appliance said would happen, in the operator's language. why_not: why it cannot be done now, asked
    again when it is to be.
    """

    # A line to fill in takes the letter for itself.
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "copy", "copy the command", show=False, id="confirm.copy"),
    ]

    def __init__(
        self,
        proposal: Proposal,
        planned: Sequence[str],
        look: Look,
        theme: ThemeName,
        why_not: Callable[[], str | None],
    ) -> None:
        super().__init__(look.say(proposal.title), look, theme)
        self._proposal = proposal
        self._planned = planned
        self._why_not = why_not

    def beneath(self) -> str:
        """How to take the command along."""
        return self.look.say("y copies the command")

    def action_copy(self) -> None:
        """To the clipboard, through the terminal."""
        command = self._words(self._values())
        self.app.copy_to_clipboard(command)
        said = f"{self.look.say('sent to the clipboard')}"
        self.query_one("#confirm-wrong", LinesView).show([line((said, "good"))])

    def parts(self) -> Sequence[Widget]:
        """Facts, fields, buttons, the command."""
        proposal, look = self._proposal, self.look
        facts: list[Line] = [line((proposal.resource, "title")), ()] if proposal.resource != "-" else []
        for said in proposal.facts:
            facts += folded(look.say(said))
        for would_be in self._planned:
            facts += folded(would_be, "accent")
        if proposal.force is not None:
            facts += folded(proposal.force, "bad")
        widest = max((cells(look.say(one.label)) for one in proposal.fields), default=0)
        rows: list[Widget] = []
        for one in proposal.fields:
            label = LinesView(look)
            label.styles.width = widest + 1
            label.show([line(look.say(one.label))])
            field = FilterInput(id=f"field-{one.name}")
            field.value = one.value
            ends = [LinesView(look, classes="end"), LinesView(look, classes="end")]
            for end, mark in zip(ends, "[]", strict=True):
                end.show([line((mark, "dim"))])
            rows.append(Horizontal(label, ends[0], field, ends[1], classes="row"))
        buttons = Horizontal(
            Button(look, look.say("Cancel"), id="cancel"),
            Button(look, look.say(proposal.verb), id="do"),
            classes="buttons",
        )
        return (
            self.text([*facts, ()]),
            *rows,
            self.text([()]),
            buttons,
            self.text([()], id="confirm-wrong"),
            self.text(self._command(proposal.defaults()), id="confirm-command"),
        )

    def on_mount(self) -> None:
        """Cancel has the focus."""
        self.query_one("#cancel", Button).focus()
        self._check()

    def on_input_changed(self, message: Input.Changed) -> None:
        """Whether it may be done, and as which command."""
        message.stop()
        self._check()
        view, lines = self.query_one("#confirm-command", LinesView), self._command(self._values())
        view.styles.height = len(lines)
        view.show(lines)

    def on_input_submitted(self, message: Input.Submitted) -> None:
        """To the next line; Enter in a line never does anything else."""
        message.stop()
        self.focus_next()

    def on_button_chosen(self, message: Button.Chosen) -> None:
        """Does it, where it may still be done."""
        message.stop()
        if message.button == "cancel":
            self.dismiss(None)
            return
        values = self._values()
        why = self._why_not() or self._read_files(values)
        if why is None:
            self.dismiss(values)
        else:
            self.query_one("#confirm-wrong", LinesView).show([line((why, "bad"))])

    def _values(self) -> dict[str, str]:
        fields = self._proposal.fields
        return {one.name: self.query_one(f"#field-{one.name}", FilterInput).value.strip() for one in fields}

    def _check(self) -> None:
        values = self._values()
        good = all(one.good(values[one.name]) for one in self._proposal.fields)
        self.query_one("#do", Button).hold_back(not good)

    def _read_files(self, values: dict[str, str]) -> str | None:
        for one in self._proposal.fields:
            if not one.file:
                continue
            try:
                with Path(values[one.name]).expanduser().open("rb") as file:
                    values[f"{one.name}.text"] = file.read(FILE_BYTES_MAX).decode()
            except (OSError, UnicodeDecodeError) as error:
                return f"{values[one.name]}: {getattr(error, 'strerror', None) or self.look.say('this is no text')}"
        return None

    def _command(self, values: dict[str, str]) -> list[Line]:
        return folded(self._words(values), "dim")

    def _words(self, values: dict[str, str]) -> str:
        return f"appliance {shlex.join(self._proposal.command(values))}"
