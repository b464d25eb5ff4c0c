"""How everything is shown: glyphs, language, time zone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import tzinfo

from tui.glyphs import Glyphs
from tui.labels import Language, translated


@dataclass(frozen=True, slots=True)
class Look:
    """Passed to whatever draws. zone: of the times that are shown."""

    glyphs: Glyphs
    zone: tzinfo
    language: Language = "en"

    def say(self, english: str) -> str:
        """A fixed word in the operator's language."""
        return translated(english, self.language)

    def name(self, label: str | None, id: str | None = None) -> str:
        """A name that people gave; where a terminal has no glyphs for it, its id where it has one."""
        if label is None:
            return id or "-"
        return id if id and self.glyphs.ascii and not label.isascii() else label
