"""Shows a secret, once: it is in no screenshot, no log, no recording and no clipboard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from textual.containers import Horizontal
from textual.widget import Widget

from tui.lines import Line, line
from tui.look import Look
from tui.screens.modal import Button, Modal, folded
from tui.theme import ThemeName


class ToldOnce(Modal[None]):
    """Closed by its button alone: Esc would lose what nobody can show again."""

    # The app makes no screenshot while this is in sight.
    secret = True

    def __init__(self, title: str, secrets: Mapping[str, str], look: Look, theme: ThemeName) -> None:
        super().__init__(title, look, theme)
        self._secrets = secrets

    def parts(self) -> Sequence[Widget]:
        """The secret in full, and one button."""
        lines: list[Line] = []
        for name, value in self._secrets.items():
            lines.append(line((name, "head")))
            # As it is: it is copied by hand or with the mouse, and no line of it is broken elsewhere.
            lines += [line(part) for part in value.splitlines() or [""]]
        stored = self.look.say("I stored it")
        return (
            self.text([*folded(self.look.say("This is shown once. Nobody can read it again."), "warn"), ()]),
            self.text([*lines, ()]),
            Horizontal(Button(self.look, stored, id="stored"), classes="buttons"),
        )

    def on_mount(self) -> None:
        """Nothing has the focus: a key that was meant for what was here before closes nothing."""
        self.set_focus(None)

    def action_cancel(self) -> None:
        """To the button."""
        self.query_one(Button).focus()

    def on_button_chosen(self, message: Button.Chosen) -> None:
        """It is gone."""
        message.stop()
        self.dismiss(None)
