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

from appliance.errors import RequestError

SCHEMA_BYTES_MAX: Final = 256 * 1024
GRAMMAR_BYTES_MAX: Final = 64 * 1024
PATTERN_CHARS_MAX: Final = 4096
NESTING_MAX: Final = 64
# Least common multiple of all `multipleOf`, each as an integer: 16384 states take 15 ms.
MULTIPLES_MAX: Final = 16_384
# Characters that a pattern has once its counted repetitions are written out.
UNROLLED_MAX: Final = 10_000
# llguidance's own settings, and who may say them is us.
_OURS: Final = "x-guidance"
_COUNTED: Final = re.compile(r"\{\s*(\d{1,9})\s*(?:,\s*(\d{0,9})\s*)?\}", re.ASCII)


def check_schema(schema: Any, param: str) -> None:
    """Raises RequestError, which names the place, where a schema is beyond the bounds."""
    multiples: list[Fraction] = []
    for place, node in _nodes(schema, param):
        if not isinstance(node, dict):
            continue
        if _OURS in node:
            raise _refused(place, f"{_OURS} is not for clients to set")
        for key, value in node.items():
            if key == "multipleOf" and isinstance(value, int | float) and 0 < value < math.inf:
                multiples.append(Fraction(str(value)))
                if _common_multiple(multiples) > MULTIPLES_MAX:
                    raise _refused(f"{place}.multipleOf", f"more than {MULTIPLES_MAX} remainders to tell apart")
            elif key == "pattern" and isinstance(value, str):
                check_pattern(value, f"{place}.pattern")
            elif key == "patternProperties" and isinstance(value, dict):
                for pattern in value:
                    check_pattern(pattern, f"{place}.patternProperties")


def check_pattern(pattern: str, param: str) -> None:
    """Raises RequestError where a regular expression is too long, or so once its repetitions are written out."""
    if len(pattern) > PATTERN_CHARS_MAX:
        raise _refused(param, f"the pattern has more than {PATTERN_CHARS_MAX} characters")
    if unrolled(pattern) > UNROLLED_MAX:
        raise _refused(param, f"the pattern's repetitions come to more than {UNROLLED_MAX} characters")


def check_repetitions(grammar: str, param: str) -> None:
    """Raises RequestError where one counted repetition in a grammar is too large; nesting is not looked at."""
    for low, high in _COUNTED.findall(grammar):
        if max(int(low), int(high or 0)) > UNROLLED_MAX:
            raise _refused(param, f"a repetition of more than {UNROLLED_MAX}")


def place_of(schema: Any, keyword: str, param: str) -> str:
    """Where a keyword first occurs in a schema; `param` where it does not."""
    for place, node in _nodes(schema, param):
        if isinstance(node, dict) and keyword in node:
            return f"{place}.{keyword}"
    return param


def unrolled(pattern: str) -> int:
    """Characters of a pattern once every counted repetition is written out; groups and classes count as they stand."""
    sizes = [0]
    last = 0
    position = 0
    while position < len(pattern):
        char = pattern[position]
        counted = _COUNTED.match(pattern, position) if char == "{" else None
        if counted is not None:
            times = max(int(counted[1]), int(counted[2] or 0), 1)
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
            last = 0 if char in "*+?|" else 1
            sizes[-1] += 1
            position = _end_of_class(pattern, position) if char == "[" else position + (2 if char == "\\" else 1)
    return sum(sizes)


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
    raise _refused(param, f"nested more than {NESTING_MAX} deep")


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


def _refused(place: str, reason: str) -> RequestError:
    return RequestError("invalid_request", f"{place}: {reason}", param=place)
