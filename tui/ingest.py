"""Makes whatever a source says fit for a terminal, once, at the edge. Pure.

Names of models and keys, error texts, log lines and addresses come from people and programs that we do not know. Their
control characters would drive the terminal, and their marks of direction would make a line say something else.
"""

from __future__ import annotations

import sys
from typing import Any, TypeVar

import msgspec

from appliance.safe_text import safe_text
from tui.source import LogLine, Update

T = TypeVar("T")
# A log line's message is longer than a name.
MESSAGE_CHARS_MAX = 2000


def safe(value: T, chars_max: int = 256) -> T:
    """The same value with every string in it made safe, and kept once however often it comes."""
    made: Any = _safe(value, chars_max)
    return made  # type: ignore[no-any-return]


def safe_update(update: Update) -> Update:
    """The same update, safe to show."""
    return Update(
        snapshot=safe(update.snapshot),
        requests=tuple(safe(record) for record in update.requests),
        logs=tuple(_safe_line(one) for one in update.logs),
        refused=safe(update.refused, MESSAGE_CHARS_MAX),
    )


def _safe_line(one: LogLine) -> LogLine:
    return safe(one, MESSAGE_CHARS_MAX)


def _safe(value: Any, chars_max: int) -> Any:
    if isinstance(value, str):
        # The same names come with every request: they are kept once.
        return sys.intern(safe_text(value, chars_max))
    if isinstance(value, msgspec.Struct):
        changed = {}
        for name in value.__struct_fields__:
            old = getattr(value, name)
            if old.__class__ in (int, float, bool, type(None)):
                continue
            new = _safe(old, chars_max)
            # Of equal strings, the one that is kept already takes the place of the other.
            if new is not old and (isinstance(new, str) or new != old):
                changed[name] = new
        return msgspec.structs.replace(value, **changed) if changed else value
    if isinstance(value, dict):
        return {_safe(key, chars_max): _safe(one, chars_max) for key, one in value.items()}
    if isinstance(value, tuple):
        return tuple(_safe(one, chars_max) for one in value)
    if isinstance(value, list):
        return [_safe(one, chars_max) for one in value]
    return value
