"""Which route of a table a path belongs to: what a path is called where every path would be too many names. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

OTHER: Final = "other"
# As aiohttp writes it: `{name}` is one segment, `{name:pattern}` what the pattern takes.
_FIELD: Final = re.compile(r"\{(\w+)(?::([^{}]+))?\}")


class RouteTemplates:
    """templates: paths as aiohttp's router takes them."""

    def __init__(self, templates: Iterable[str]) -> None:
        self._exact: dict[str, str] = {}
        self._patterns: dict[str, re.Pattern[str]] = {}
        for template in templates:
            if _FIELD.search(template) is None:
                self._exact[template] = template
            else:
                self._patterns.setdefault(_FIELD.sub(r"{\1}", template), _pattern(template))

    def of(self, path: str) -> str:
        """The template, without its patterns; OTHER for what is no route."""
        if (found := self._exact.get(path)) is not None:
            return found
        return next((name for name, pattern in self._patterns.items() if pattern.fullmatch(path)), OTHER)


def _pattern(template: str) -> re.Pattern[str]:
    parts, at = [], 0
    for field in _FIELD.finditer(template):
        parts += [re.escape(template[at : field.start()]), field[2] or "[^{}/]+"]
        at = field.end()
    return re.compile("".join([*parts, re.escape(template[at:])]))
