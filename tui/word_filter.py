"""A small filter for lists that have no language of their own: words that are all to be there. Pure.

    actor:wang !action:login "10.31"

`field:text` looks into one field, a word alone into all of them; `!` negates. Case does not matter.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from typing import TypeVar

from appliance.errors import ApplianceError

Row = TypeVar("Row")


class WordFilterError(ApplianceError):
    """The filter cannot be read."""


def word_filter(text: str, fields: Mapping[str, Callable[[Row], str]]) -> Callable[[Row], bool] | None:
    """Whether a row passes; None where every one does. Raises WordFilterError."""
    try:
        words = shlex.split(text)
    except ValueError:
        raise WordFilterError("the quote has no end") from None
    tests = [_test(word, fields) for word in words if word != "!"]
    return (lambda row: all(test(row) for test in tests)) if tests else None


def _test(word: str, fields: Mapping[str, Callable[[Row], str]]) -> Callable[[Row], bool]:
    negated = word.startswith("!")
    name, colon, wanted = word.removeprefix("!").partition(":")
    lower = wanted.lower()
    if colon and name in fields:
        of = fields[name]
        return lambda row: (lower in of(row).lower()) is not negated
    if colon and name.isidentifier():
        raise WordFilterError(f"{name} is no field; known: {', '.join(fields)}")
    anywhere = word.removeprefix("!").lower()
    return lambda row: any(anywhere in of(row).lower() for of in fields.values()) is not negated
