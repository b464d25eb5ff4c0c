"""One line of the service log as data, and lines that say the same thing folded into one. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal

from msgspec import Struct

Level = Literal["debug", "info", "warning", "error", "critical"]
LEVELS: Final[tuple[Level, ...]] = ("debug", "info", "warning", "error", "critical")
# A flood often is two or three lines in turn.
FOLDED_AMONG: Final = 8


class LogLine(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """number: grows by one with each line of a run. time: UTC seconds since 1970. logger: the part that said it.

    message: one line. exception: the lines of a traceback. request_id, trace_id: of the request it is about. Nothing in
    it drives a terminal, and no secret that is recognised as one is in it.
    """

    number: int
    time: float
    level: Level
    logger: str
    message: str
    exception: str | None = None
    request_id: str | None = None
    trace_id: str | None = None


class FoldedLine(Struct, frozen=True, kw_only=True):
    """line: the newest of `count` that say the same; first: when the oldest of them was said."""

    line: LogLine
    count: int = 1
    first: float = 0.0


def folded(lines: Iterable[LogLine], among: int = FOLDED_AMONG) -> Sequence[FoldedLine]:
    """Oldest first, by the newest line of each. A line joins one of the newest `among` that say the same."""
    found: list[FoldedLine] = []
    for line in lines:
        says = _says(line)
        count, first = 1, line.time
        for back in range(len(found) - 1, max(-1, len(found) - 1 - among), -1):
            if _says(found[back].line) == says:
                known = found.pop(back)
                count, first = known.count + 1, known.first
                break
        found.append(FoldedLine(line=line, count=count, first=first))
    return found


def at_least(level: Level) -> frozenset[Level]:
    """This level and those above it."""
    return frozenset(LEVELS[LEVELS.index(level) :])


def _says(line: LogLine) -> tuple[str, str, str]:
    return line.level, line.logger, line.message
