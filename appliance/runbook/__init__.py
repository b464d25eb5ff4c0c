"""The operator's handbook as it is shipped: docs/OPERATIONS.md, readable where there is no browser and no daemon.

What to do about an alert is the section with its name.
"""

from __future__ import annotations

import re
from importlib import resources
from typing import Final, Literal

Language = Literal["en", "zh"]

_FILES: Final = {"en": "OPERATIONS.md", "zh": "OPERATIONS.zh.md"}
_HEADING: Final = re.compile(r"^(#{1,6}) (.+?)\s*$", re.MULTILINE)


def handbook(language: Language = "en") -> str:
    """All of it, as Markdown. Reads a small file."""
    return resources.files(__name__).joinpath(_FILES[language]).read_text("utf-8")


def sections(text: str) -> dict[str, str]:
    """What is below each heading, up to the next one of the same or a higher rank. Pure."""
    found = list(_HEADING.finditer(text))
    below = {}
    for index, heading in enumerate(found):
        ends = (later.start() for later in found[index + 1 :] if len(later[1]) <= len(heading[1]))
        below[heading[2]] = text[heading.end() : next(ends, len(text))].strip()
    return below


def runbook(alert: str, language: Language = "en") -> str | None:
    """What to do about an alert, as Markdown; None where there is no section of that name."""
    return sections(handbook(language)).get(alert)
