"""What of a grammar in Lark is refused before llguidance sees it: how much its terminals are once written out. Pure.

A terminal stands in another one as often as that names it, so that thirty short lines can be a text of gigabytes.
llguidance finds that out too, but only after seconds, which grow with the number of rules.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from appliance.engine.constraint.bounds import (
    COUNTED,
    RULES_MAX,
    TERMINAL_CHARS_MAX,
    UNROLLED_MAX,
    refused,
    times_of,
    unrolled,
)

_START: Final = re.compile(r"^[?!]?(\w+)(?:\.-?\d+)?(?:\[[^\]\n]*\])?[ \t]*:", re.MULTILINE)
_PIECE: Final = re.compile(
    r"""(?P<text>"(?:\\.|[^"\\])*")|(?P<comment>//[^\n]*)|(?P<pattern>/(?:\\.|[^/\\\n])+/)"""
    rf"""|(?P<counted>{COUNTED.pattern})|(?P<name>\w+)|(?P<other>\S)""",
    re.DOTALL | re.ASCII,
)


def check_terminals(grammar: str, param: str) -> None:
    """Raises RequestError where there are too many rules, or a terminal, a pattern or a repetition is too large."""
    definitions = {name: list(_PIECE.finditer(text)) for name, text in _definitions(grammar, param)}
    sizes: dict[str, int] = {}
    for name in definitions:
        _measure(name, definitions, sizes, param)


def _definitions(grammar: str, param: str) -> Iterator[tuple[str, str]]:
    """Each rule and terminal with what it is."""
    starts = list(_START.finditer(grammar))
    if len(starts) > RULES_MAX:
        raise refused(param, f"more than {RULES_MAX} rules")
    ends = [*(start.start() for start in starts), len(grammar)][1:]
    for start, end in zip(starts, ends, strict=True):
        yield start[1], grammar[start.end() : end]


def _measure(name: str, definitions: Mapping[str, list[re.Match[str]]], sizes: dict[str, int], param: str) -> None:
    """Puts into `sizes` what `name` comes to, and before it what its terminals do. Rules, and a terminal inside of
    itself, count as one character.
    """
    to_do = [name]
    while to_do:
        name = to_do[-1]
        sizes.setdefault(name, 1)
        inner = {piece["name"] for piece in definitions[name] if piece["name"] in definitions} - sizes.keys()
        if inner:
            to_do += inner
            continue
        to_do.pop()
        size = _size(definitions[name], sizes, param)
        if name.isupper():
            sizes[name] = size
            if size > TERMINAL_CHARS_MAX:
                raise refused(param, f"{name[:64]} comes to more than {TERMINAL_CHARS_MAX} characters")


def _size(pieces: list[re.Match[str]], sizes: Mapping[str, int], param: str) -> int:
    groups = [0]
    last = 0
    for piece in pieces:
        if piece["counted"]:
            times = _times(piece["counted"], param)
            groups[-1] += last * (times - 1)
            last *= times
        elif piece[0] in ("(", "["):
            groups.append(0)
        elif piece[0] in (")", "]"):
            last = groups.pop()
            groups = groups or [0]
            groups[-1] += last
        elif not piece["comment"] and not piece["other"]:
            last = _size_of(piece, sizes, param)
            groups[-1] += last
    return sum(groups)


def _size_of(piece: re.Match[str], sizes: Mapping[str, int], param: str) -> int:
    if piece["name"]:
        return sizes.get(piece["name"], 1)
    size = unrolled(piece[0]) if piece["pattern"] else len(piece[0])
    if piece["pattern"] and size > UNROLLED_MAX:
        raise refused(param, f"a pattern's repetitions come to more than {UNROLLED_MAX} characters")
    return size


def _times(counted: str, param: str) -> int:
    match = COUNTED.fullmatch(counted)
    assert match is not None, "it is of this pattern"
    if (times := times_of(match)) > UNROLLED_MAX:
        raise refused(param, f"a repetition of more than {UNROLLED_MAX}")
    return times
