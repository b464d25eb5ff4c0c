"""One line to type a filter into."""

from __future__ import annotations

from textual.events import Paste
from textual.widgets import Input

from appliance.safe_text import safe_text


class FilterInput(Input):
    """What is pasted is made safe first: a terminal hands over whatever was copied."""

    DEFAULT_CSS = """
    FilterInput { border: none; height: 1; padding: 0; background: $background; width: 1fr; }
    FilterInput:focus { border: none; background: $background; }
    """

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id, compact=True, select_on_focus=False)

    def _on_paste(self, event: Paste) -> None:
        # Textual calls the handler of Input itself after this one.
        event.text = safe_text(event.text.splitlines()[0] if event.text else "")
