"""Says which approval an act waits for, and tries again once another administrator has agreed."""

from __future__ import annotations

from collections.abc import Sequence

from textual.containers import Horizontal
from textual.widget import Widget

from tui.lines import line
from tui.look import Look
from tui.screens.modal import Button, Modal, folded
from tui.theme import ThemeName


class SecondPerson(Modal[bool]):
    """Gives True where it is to be tried again. why: what the appliance said last."""

    def __init__(self, approval: str, why: str, look: Look, theme: ThemeName) -> None:
        super().__init__(look.say("NEEDS A SECOND PERSON"), look, theme)
        self._approval = approval
        self._why = why

    def parts(self) -> Sequence[Widget]:
        """The id, what the other one does, the buttons."""
        look = self.look
        buttons = Horizontal(
            Button(look, look.say("Cancel"), id="cancel"),
            Button(look, look.say("Try again"), id="again"),
            classes="buttons",
        )
        return (
            self.text([line(("id  ", "dim"), (self._approval, "title")), (), *folded(self._why), ()]),
            self.text(
                [
                    *folded(look.say("Another administrator agrees here (: and then Approvals), or with")),
                    line((f"appliance approvals approve {self._approval}", "accent")),
                    (),
                ]
            ),
            buttons,
        )

    def on_mount(self) -> None:
        """Cancel has the focus."""
        self.query_one("#cancel", Button).focus()

    def on_button_chosen(self, message: Button.Chosen) -> None:
        """Again, or not."""
        message.stop()
        self.dismiss(message.button == "again")
