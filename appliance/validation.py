"""msgspec's complaints in the words of the person who wrote the value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec

_TYPES: Final[Mapping[str, str]] = {
    "object": "an object",
    "array": "a list",
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "null": "null",
}
_PHRASES: Final[Mapping[str, str]] = {
    "Object contains unknown field": "unknown key",
    "Number out of range": "the number is out of range",
    "Expected": "expected",
    "Invalid": "invalid",
}
_MISSING: Final = re.compile(r"Object missing required field `([^`]+)`")


def explain(error: msgspec.ValidationError) -> tuple[str, str]:
    """(what is wrong, where): the place is written `messages[0].content`; "" is the whole value."""
    message, _, where = str(error).partition(" - at `")
    place = re.sub(r"^(key` in `)?\$\.?", "", where.rstrip("`"))
    if missing := _MISSING.match(message):
        place = f"{place}.{missing[1]}" if place else missing[1]
        return "missing", place
    for theirs, ours in _PHRASES.items():
        message = message.replace(theirs, ours)
    return re.sub(r"`([^`]+)`", lambda match: _plain_type(match[1]), message), place


def _plain_type(written: str) -> str:
    names = written.split(" | ")
    return " or ".join(_TYPES.get(name, name) for name in names if name != "null" or len(names) == 1)
