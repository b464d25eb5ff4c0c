"""A sentence that is said in the operator's language: its English, with places for what only the moment knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Sentence:
    """english: the key in the table of words, with `{places}`. values: what stands there, some of them sentences too.

    written: it is as it is, whatever the language: somebody else's words.
    """

    english: str
    values: Mapping[str, object] = field(default_factory=dict)
    written: bool = False


def sentence(english: str, **values: object) -> Sentence:
    """One of the table's, where english is a constant: a test holds the table to it."""
    return Sentence(english, values)


def as_written(text: str) -> Sentence:
    """What somebody else has written: a summary, a name, an answer."""
    return Sentence(text, written=True)
