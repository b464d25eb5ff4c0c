"""What of a client's schema or pattern is refused before llguidance sees it. Pure.

llguidance bounds its own work by counters, but some of it is not counted: a `multipleOf` becomes an automaton of so
many states, nested repetitions become expressions of their product's size. Each bound here keeps one such cost below
about 50 ms on one core.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Final

from appliance.engine.constraint.endless import is_endless
from appliance.errors import RequestError

SCHEMA_BYTES_MAX: Final = 256 * 1024
GRAMMAR_BYTES_MAX: Final = 64 * 1024
PATTERN_CHARS_MAX: Final = 4096
NESTING_MAX: Final = 64
# Least common multiple of all `multipleOf`, each as an integer: 16384 states take 15 ms.
MULTIPLES_MAX: Final = 16_384
# Characters that a pattern has once its counted repetitions are written out.
UNROLLED_MAX: Final = 10_000
# The same of a terminal in a grammar, which may be a long list of texts.
TERMINAL_CHARS_MAX: Final = 100_000
# Every pattern of `patternProperties` is compared with every other of its object: 0.03 ms each.
PATTERN_PAIRS_MAX: Final = 8192
# What takes the time is a chain of them: 1.3 s for so many on one core.
RULES_MAX: Final = 1024
# llguidance's own settings, and who may say them is us.
_OURS: Final = "x-guidance"
COUNTED: Final = re.compile(r"\{\s*(\d{1,9})\s*(?:,\s*(\d{0,9})\s*)?\}", re.ASCII)


def check_schema(schema: Any, param: str) -> None:
    """Raises RequestError, which names the place, where a schema is beyond the bounds."""
    multiples: list[Fraction] = []
    pairs = 0
    for place, node in _nodes(schema, param):
        if not isinstance(node, dict):
            continue
        if _OURS in node:
            raise refused(place, f"{_OURS} is not for clients to set")
        for key, value in node.items():
            if key == "multipleOf" and isinstance(value, int | float) and 0 < value < math.inf:
                multiples.append(Fraction(str(value)))
                if _common_multiple(multiples) > MULTIPLES_MAX:
                    raise refused(f"{place}.multipleOf", f"more than {MULTIPLES_MAX} remainders to tell apart")
            elif key == "pattern" and isinstance(value, str):
                check_pattern(value, f"{place}.pattern")
            elif key == "patternProperties" and isinstance(value, dict):
                pairs += len(value) ** 2
                if pairs > PATTERN_PAIRS_MAX:
                    raise refused(f"{place}.patternProperties", "too many patterns to tell apart")
                for pattern in value:
                    check_pattern(pattern, f"{place}.patternProperties")
    if is_endless(schema):
        raise refused(param, "no value of it has an end: it needs itself inside of itself")


def check_pattern(pattern: str, param: str) -> None:
    """Raises RequestError where a regular expression is too long, or so once its repetitions are written out."""
    if len(pattern) > PATTERN_CHARS_MAX:
        raise refused(param, f"the pattern has more than {PATTERN_CHARS_MAX} characters")
    if unrolled(pattern) > UNROLLED_MAX:
        raise refused(param, f"the pattern's repetitions come to more than {UNROLLED_MAX} characters")


def place_of(schema: Any, keyword: str, param: str) -> str:
    """Where a keyword first occurs in a schema; `param` where it does not."""
    for place, node in _nodes(schema, param):
        if isinstance(node, dict) and keyword in node:
            return f"{place}.{keyword}"
    return param


def refused(place: str, reason: str) -> RequestError:
    """What is raised."""
    return RequestError("invalid_request", f"{place}: {reason}", param=place)


def unrolled(pattern: str) -> int:
    """Characters of a pattern once every counted repetition is written out; groups and classes count as they stand."""
    sizes = [0]
    last = 0
    position = 0
    while position < len(pattern):
        char = pattern[position]
        counted = COUNTED.match(pattern, position) if char == "{" else None
        if counted is not None:
            times = times_of(counted)
            sizes[-1] += last * (times - 1)
            last *= times
            position = counted.end()
        elif char == "(":
            sizes.append(0)
            position += 1
        elif char == ")":
            last = sizes.pop() + 1
            if not sizes:
                sizes = [0]
            sizes[-1] += last
            position += 1
        else:
            # White space may be nothing: `(?x)`.
            last = 0 if char in "*+?|" else last if char.isspace() else 1
            sizes[-1] += 1
            position = _end_of_class(pattern, position) if char == "[" else position + (2 if char == "\\" else 1)
    return sum(sizes)


def times_of(counted: re.Match[str]) -> int:
    """How often a match of COUNTED repeats what is before it, at most."""
    return max(int(counted[1]), int(counted[2] or 0), 1)


def _end_of_class(pattern: str, start: int) -> int:
    position = start + 1
    while position < len(pattern) and pattern[position] != "]":
        position += 2 if pattern[position] == "\\" else 1
    return position + 1


def _nodes(schema: Any, param: str) -> Iterator[tuple[str, Any]]:
    """Every value of a schema with its place. Raises RequestError where it is nested too deep."""
    level = [(param, schema)]
    for _ in range(NESTING_MAX):
        yield from level
        level = [(f"{place}{name}", child) for place, node in level for name, child in _children(node)]
        if not level:
            return
    raise refused(param, f"nested more than {NESTING_MAX} deep")


def _children(node: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for key, child in node.items():
            yield f".{key[:64]}", child
    elif isinstance(node, list):
        for index, child in enumerate(node):
            if isinstance(child, dict | list):
                yield f"[{index}]", child


def _common_multiple(values: list[Fraction]) -> int:
    """As many remainders as the automaton must tell apart: of the values in units of their common denominator."""
    unit = math.lcm(*(value.denominator for value in values))
    return math.lcm(*(int(value * unit) for value in values)) if unit <= 10**12 else 10**12
