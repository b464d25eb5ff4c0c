"""msgspec's complaints in the words of the person who wrote the value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal, get_args, get_origin

import msgspec
from msgspec import Struct
from msgspec.structs import fields

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


def explain(error: msgspec.ValidationError, kind: type[Struct] | None = None) -> tuple[str, str]:
    """(what is wrong, where): the place is written `messages[0].content`; "" is the whole value.

    kind: of the whole value; then the values that one of its own fields may have are named.
    """
    message, _, where = str(error).partition(" - at `")
    place = re.sub(r"^(key` in `)?\$\.?", "", where.rstrip("`"))
    if missing := _MISSING.match(message):
        place = f"{place}.{missing[1]}" if place else missing[1]
        return "missing", place
    for theirs, ours in _PHRASES.items():
        message = message.replace(theirs, ours)
    choices = _choices(kind, place) if kind is not None and message.startswith("invalid enum value") else ()
    hint = f"; expected {' or '.join(map(str, choices))}" if choices else ""
    return re.sub(r"`([^`]+)`", lambda match: _plain_type(match[1]), message) + hint, place


def _choices(kind: type[Struct], field: str) -> tuple[object, ...]:
    declared = {each.encode_name: each.type for each in fields(kind)}.get(field)
    return get_args(declared) if get_origin(declared) is Literal else ()


def _plain_type(written: str) -> str:
    names = written.split(" | ")
    return " or ".join(_TYPES.get(name, name) for name in names if name != "null" or len(names) == 1)
