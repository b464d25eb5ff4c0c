"""Calls as Python writes them, `[f(a=1, b="x"), g()]`, and as Gemma does, `call:f{a:1,b:<|"|>x<|"|>}`.

A small reader of our own: Python's parser is not made for text that anybody may have written.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

NESTING_MAX: Final = 32
_NAME: Final = re.compile(r"[A-Za-z_][\w.\-]*")
_NUMBER: Final = re.compile(r"[-+]?(?:\d[\d_]*)?(?:\.\d*)?(?:[eE][-+]?\d+)?")
_SPACE: Final = re.compile(r"\s*")
_PLAIN: Final = re.compile(r"[^,{}\[\]]+")
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "a": "\a", "v": "\v", "0": "\0", "\n": ""}
_HEX_DIGITS: Final = {"x": 2, "u": 4, "U": 8}
_WORDS: Final = {"True": True, "False": False, "None": None, "true": True, "false": False, "null": None}
_QUOTE: Final = '<|"|>'

Called = tuple[str, dict[str, Any]]


class _UnreadableError(Exception):
    """The text is none of ours."""


def python_calls(text: str) -> list[Called] | None:
    """`[f(a=1), g()]`, with or without the brackets; None where it is something else. Linear in its length."""
    try:
        return _Reader(text).calls()
    except _UnreadableError:
        return None


def gemma_call(text: str) -> Called | None:
    """`call:f{a:1}`; None where it is something else."""
    reader = _Reader(text, quotes=(_QUOTE, '"'))
    try:
        reader.expect("call:")
        name = reader.name()
        fields = reader.mapping(0)
        reader.end()
    except _UnreadableError:
        return None
    return name, fields


class _Reader:
    def __init__(self, text: str, quotes: tuple[str, ...] = ('"""', "'''", '"', "'")) -> None:
        self._text = text
        self._at = 0
        self._quotes = quotes
        self._python = quotes[0] != _QUOTE

    def calls(self) -> list[Called]:
        listed = self._take("[")
        calls = [self._call()]
        while self._take(",") and not self._peek("]"):
            calls.append(self._call())
        if listed:
            self.expect("]")
        self.end()
        return calls

    def name(self) -> str:
        return self._match(_NAME)

    def mapping(self, depth: int) -> dict[str, Any]:
        self.expect("{")
        fields: dict[str, Any] = {}
        while not self._take("}"):
            key = self._key(depth)
            self.expect(":")
            fields[key] = self._value(depth)
            if not self._take(","):
                self.expect("}")
                break
        return fields

    def expect(self, word: str) -> None:
        if not self._take(word):
            raise _UnreadableError

    def end(self) -> None:
        self._skip()
        if self._at != len(self._text):
            raise _UnreadableError

    def _call(self) -> Called:
        name = self.name()
        self.expect("(")
        fields: dict[str, Any] = {}
        while not self._take(")"):
            key = self.name()
            self.expect("=")
            fields[key] = self._value(0)
            if not self._take(","):
                self.expect(")")
                break
        return name, fields

    def _key(self, depth: int) -> str:
        if self._python or any(self._peek(quote) for quote in self._quotes):
            key = self._value(depth)
            if not isinstance(key, str):
                raise _UnreadableError
            return key
        return self.name()

    def _value(self, depth: int) -> Any:
        if depth > NESTING_MAX:
            raise _UnreadableError
        self._skip()
        for quote in self._quotes:
            if self._text.startswith(quote, self._at):
                return self._string(quote)
        if self._peek("{"):
            return self.mapping(depth + 1)
        for opening, closing in (("[", "]"), ("(", ")")):
            if self._take(opening):
                return self._items(closing, depth + 1)
        return self._scalar()

    def _items(self, closing: str, depth: int) -> list[Any]:
        items: list[Any] = []
        while not self._take(closing):
            items.append(self._value(depth))
            if not self._take(","):
                self.expect(closing)
                break
        return items

    def _scalar(self) -> Any:
        word = _NAME.match(self._text, self._at)
        if word is not None and word[0] in _WORDS:
            self._at = word.end()
            return _WORDS[word[0]]
        number = _NUMBER.match(self._text, self._at)
        if number is not None and any(map(str.isdigit, number[0])):
            self._at = number.end()
            return _number(number[0])
        if self._python:
            raise _UnreadableError
        return self._match(_PLAIN).strip()

    def _string(self, quote: str) -> str:
        start = self._at + len(quote)
        if quote == _QUOTE:
            end = self._text.find(quote, start)
            if end < 0:
                raise _UnreadableError
            self._at = end + len(quote)
            return self._text[start:end]
        pieces: list[str] = []
        special = re.compile(re.escape(quote) + r"|\\")
        at = start
        while (found := special.search(self._text, at)) is not None:
            pieces.append(self._text[at : found.start()])
            if found[0] == quote:
                self._at = found.end()
                return "".join(pieces)
            piece, at = self._escaped(found.end())
            pieces.append(piece)
        raise _UnreadableError

    def _escaped(self, at: int) -> tuple[str, int]:
        letter = self._text[at : at + 1]
        digits = _HEX_DIGITS.get(letter, 0)
        if not digits:
            known = _ESCAPES.get(letter)
            return (known if known is not None else letter if letter in "\\'\"" else "\\" + letter), at + 1
        end = at + 1 + digits
        try:
            code = int(self._text[at + 1 : end], 16)
            letter = chr(code)
            letter.encode()
        except (ValueError, OverflowError):
            raise _UnreadableError from None
        return letter, end

    def _match(self, pattern: re.Pattern[str]) -> str:
        self._skip()
        found = pattern.match(self._text, self._at)
        if found is None or not found[0]:
            raise _UnreadableError
        self._at = found.end()
        return found[0]

    def _take(self, word: str) -> bool:
        if not self._peek(word):
            return False
        self._at += len(word)
        return True

    def _peek(self, word: str) -> bool:
        self._skip()
        return self._text.startswith(word, self._at)

    def _skip(self) -> None:
        space = _SPACE.match(self._text, self._at)
        assert space is not None
        self._at = space.end()


def _number(text: str) -> int | float:
    text = text.replace("_", "")
    try:
        return int(text)
    except ValueError:
        pass
    try:
        number = float(text)
        json.dumps(number, allow_nan=False)
    except ValueError:
        raise _UnreadableError from None
    return number
