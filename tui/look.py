"""How everything is shown: glyphs, language, time zone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import tzinfo

from tui.glyphs import Glyphs
from tui.labels import Language, translated
from tui.sentence import Sentence
from tui.units import NONE, duration


@dataclass(slots=True)
class Look:
    """Passed to whatever draws. zone: of the times that are shown.

    The app alone changes it, and draws everything anew then; whoever draws asks it each time.
    """

    glyphs: Glyphs
    zone: tzinfo
    language: Language = "en"

    def say(self, english: str | Sentence) -> str:
        """A fixed word, or a sentence, in the operator's language."""
        if isinstance(english, str):
            return translated(english, self.language)
        if english.written:
            return english.english
        values = {
            name: self.say(value) if isinstance(value, Sentence) else value for name, value in english.values.items()
        }
        return translated(english.english, self.language).format_map(values)

    def ago(self, seconds: float) -> str:
        """How long ago: `now`, `3s ago`."""
        return self.say("now") if seconds < 1 else f"{duration(seconds)} {self.say('ago')}"

    def name(self, label: str | None, id: str | None = None) -> str:
        """A name that people gave; where a terminal has no glyphs for it, its id where it has one."""
        if label is None:
            return id or NONE
        return id if id and self.glyphs.ascii and not label.isascii() else label
