"""Where a bracketed text ends that comes in pieces: a JSON value, or a list as Python writes it."""

from __future__ import annotations

import re
from typing import Final

_NEXT: Final = {'"': re.compile(r'["{}\[\]]'), "\"'": re.compile(r"[\"'{}\[\]()]")}
_IN_STRING: Final = {'"': re.compile(r'["\\]'), "'": re.compile(r"['\\]")}


class BracketScanner:
    """Begins before the first bracket. It counts brackets outside of strings; whether they match is not its business.

    python: strings may stand between single quotes, and round brackets count.
    """

    __slots__ = ("_depth", "_escaped", "_next", "_quote")

    def __init__(self, *, python: bool = False) -> None:
        self._next = _NEXT["\"'" if python else '"']
        self._depth = 0
        self._quote = ""
        self._escaped = False

    def feed(self, text: str, start: int = 0) -> int:
        """Takes text[start:]; the index after the bracket that closes the first one, or -1 where it is still open."""
        at = start
        while at < len(text):
            if self._escaped:
                self._escaped = False
                at += 1
                continue
            found = (_IN_STRING[self._quote] if self._quote else self._next).search(text, at)
            if found is None:
                return -1
            at = found.end()
            match found[0]:
                case "\\":
                    self._escaped = True
                case '"' | "'" as quote:
                    self._quote = "" if self._quote else quote
                case "{" | "[" | "(":
                    self._depth += 1
                case _:
                    self._depth -= 1
                    if self._depth <= 0:
                        return at
        return -1
