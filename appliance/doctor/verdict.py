"""What the doctor says of one thing. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal

from msgspec import Struct

Level = Literal["ok", "warning", "error"]
_WORST: Final[Sequence[Level]] = ("error", "warning", "ok")


class Verdict(Struct, frozen=True, kw_only=True):
    """check: what was looked at, one word. found: what is so, and the cause where it is not well, one sentence.

    next_step: what to do about it; None where there is nothing to do.
    """

    check: str
    level: Level
    found: str
    next_step: str | None = None


def fine(check: str, found: str) -> Verdict:
    """All is well."""
    return Verdict(check=check, level="ok", found=found)


def warning(check: str, found: str, next_step: str) -> Verdict:
    """It works, but not for long, or not as well as it could."""
    return Verdict(check=check, level="warning", found=found, next_step=next_step)


def error(check: str, found: str, next_step: str) -> Verdict:
    """It does not work."""
    return Verdict(check=check, level="error", found=found, next_step=next_step)


def worst(verdicts: Iterable[Verdict]) -> Level:
    """Of all of them; ok of none."""
    levels = {one.level for one in verdicts}
    return next((level for level in _WORST if level in levels), "ok")
