"""A block of lines on the screen: only those that have changed are drawn anew."""

from __future__ import annotations

from collections.abc import Sequence

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from tui.lines import Line, Role, ascii_only, fitted
from tui.look import Look
from tui.theme import ThemeName, faded, styles_of


class LinesView(Widget):
    """Shows what it is given; it takes no keys, unless a screen makes it the one that has the focus."""

    DEFAULT_CSS = "LinesView { height: 1fr; }"

    def __init__(
        self, look: Look, *, id: str | None = None, classes: str | None = None, can_focus: bool = False
    ) -> None:
        super().__init__(id=id, classes=classes, markup=False)
        self.can_focus = can_focus
        self._look = look
        self._block: tuple[Line, ...] = ()
        self._role_styles: dict[Role, Style] = {}

    def show(self, block: Sequence[Line]) -> None:
        """Shows these lines."""
        old, self._block = self._block, tuple(block)
        changed = [
            y
            for y in range(max(len(old), len(self._block)))
            if (old[y] if y < len(old) else None) != (self._block[y] if y < len(self._block) else None)
        ]
        if changed:
            self.refresh(*(Region(0, y, self.size.width, 1) for y in changed))

    def restyle(self, theme: ThemeName, *, old: bool = False) -> None:
        """Draws in another theme. old: as figures of before."""
        styles = styles_of(theme)
        self._role_styles = dict(faded(styles) if old else styles)
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """One of the lines."""
        width = self.size.width
        base = self.rich_style
        if y >= len(self._block):
            return Strip.blank(width, base)
        segments = []
        for text, role in fitted(self._block[y], width):
            style = self._role_styles.get(role)
            shown = ascii_only(text) if self._look.glyphs.ascii else text
            segments.append(Segment(shown, base if style is None else base + style))
        return Strip(segments, width)
