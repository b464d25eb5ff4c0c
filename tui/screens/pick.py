"""A list over the screen, of which one row is chosen, by a key that says what for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.events import Key

from tui.lines import Line, line, stretched, styled
from tui.look import Look
from tui.screens.block import Block
from tui.theme import ThemeName


@dataclass(frozen=True, slots=True)
class Picked:
    """place: of the row. key: that was pressed on it."""

    place: int
    key: str


class Pick(Block[Picked]):
    """rows: each the lines of one thing. keys: what they do, by Textual's name of the key; Esc and q close."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss", "close", show=False, id="pick.close"),
        Binding("down,j", "move(1)", "down", show=False, id="list.down"),
        Binding("up,k", "move(-1)", "up", show=False, id="list.up"),
    ]

    def __init__(
        self,
        title: str,
        rows: Sequence[Sequence[Line]],
        keys: Mapping[str, str],
        empty: str,
        look: Look,
        theme: ThemeName,
    ) -> None:
        super().__init__(title, look, theme)
        self._rows = rows
        self._keys = keys
        self._empty = empty
        self._chosen = 0

    def on_key(self, event: Key) -> None:
        """What is to be done with the row."""
        if event.key in self._keys and self._rows:
            event.stop()
            self.dismiss(Picked(self._chosen, event.key))

    def action_move(self, rows: int) -> None:
        """Down or up."""
        self._chosen = max(0, min(len(self._rows) - 1, self._chosen + rows))
        self.paint()

    def lines(self, rows: int) -> Sequence[Line]:
        """The rows around the chosen one, and what its keys do."""
        room = rows - 2
        lines: list[Line] = []
        first = 0
        for place, row in enumerate(self._rows):
            if place == self._chosen:
                first = max(0, len(lines) + len(row) - room)
                lines += [line(" ", styled(row[0], "cursor")), *(line(" ", one) for one in row[1:])]
            else:
                lines += [line(" ", one) for one in row]
        if not lines:
            lines = [line((f" {self._empty}", "dim"))]
        say = self.look.say
        hint = "   ".join(f"{_shown(key)} {say(word)}" for key, word in self._keys.items()) if self._rows else ""
        return [*stretched(lines[first:], room), (), line((f" {hint}", "accent"))]


def _shown(key: str) -> str:
    return {"enter": "Enter"}.get(key, key)
