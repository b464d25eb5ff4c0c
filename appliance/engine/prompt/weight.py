"""How large a value is that a chat template has made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

WEIGHT_MAX: Final = 32 * 2**20
INTEGER_BITS_MAX: Final = 1024


class TooLargeError(Exception):
    """A template makes a value that is larger than WEIGHT_MAX."""

    def __init__(self) -> None:
        super().__init__(f"it makes a value that is nested too deeply or has more than {WEIGHT_MAX} characters")


def bounded(weight: int) -> int:
    """The weight itself. Raises TooLargeError above WEIGHT_MAX."""
    if weight > WEIGHT_MAX:
        raise TooLargeError
    return weight


def weight_of(value: object) -> int:
    """Characters and elements that `value` has when it is written out. Raises TooLargeError above WEIGHT_MAX.

    A list that holds the same list twice counts it twice, as `str()` would write it, but is walked once: templates can
    build values whose text is exponentially larger than they are.
    """
    try:
        return bounded(_weight_of(value, {}))
    except RecursionError:
        raise TooLargeError from None


def _weight_of(value: object, known: dict[int, int]) -> int:
    if isinstance(value, str | bytes):
        return len(value) + 1
    if isinstance(value, int):
        return _integer_weight(value)
    if not isinstance(value, Mapping | list | tuple | set | frozenset):
        return 1
    if id(value) not in known:
        known[id(value)] = bounded(1 + sum(_weight_of(part, known) for part in _parts(value)))
    return known[id(value)]


def _integer_weight(value: int) -> int:
    if value.bit_length() > INTEGER_BITS_MAX:
        raise TooLargeError
    return 1 + value.bit_length() // 3


def _parts(value: Mapping[Any, Any] | list[Any] | tuple[Any, ...] | set[Any] | frozenset[Any]) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return (part for entry in value.items() for part in entry)
    return value
