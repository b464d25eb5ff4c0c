"""The fixed words in other languages. The English word is the key, as it is written where it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, get_args

Language = Literal["en", "zh"]
LANGUAGES: Final[tuple[Language, ...]] = get_args(Language)

CHINESE: Final[Mapping[str, str]] = {}


def translated(english: str, language: Language) -> str:
    """A fixed word in that language."""
    return english if language == "en" else CHINESE.get(english, english)
