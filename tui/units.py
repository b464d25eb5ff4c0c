"""Figures as an operator reads them. Pure. What is not known is `-`, never 0."""

from __future__ import annotations

from datetime import datetime, tzinfo
from typing import Final

NONE: Final = "-"
_GIB: Final = 2**30


def gib(size: int | None) -> str:
    """Bytes as `18.4`."""
    return NONE if size is None else f"{size / _GIB:.1f}"


def short_gib(size: int | None) -> str:
    """Bytes as `50.4G`, from 100 without the fraction."""
    if size is None:
        return NONE
    value = size / _GIB
    return f"{value:.0f}G" if value >= 100 else f"{value:.1f}G"


def share(part: float | None, digits: int = 0) -> str:
    """0.66 as `66%`."""
    return NONE if part is None else f"{part * 100:.{digits}f}%"


def seconds(value: float | None) -> str:
    """A latency: `22ms`, `0.31s`, `14.2s`, `120s`."""
    if value is None:
        return NONE
    if value < 0.0995:
        return f"{value * 1000:.0f}ms"
    return f"{value:.2f}s" if value < 9.995 else f"{value:.1f}s" if value < 99.95 else f"{value:.0f}s"


def bare_seconds(value: float | None) -> str:
    """The same for a column that says seconds: `0.31`, `14.20`, `120.0`."""
    return NONE if value is None else f"{value:.2f}" if value < 99.995 else f"{value:.1f}"


def count(value: float | None) -> str:
    """`311`, `2.1k`, `41.2k`, `1.9M`."""
    if value is None:
        return NONE
    if value < 999.5:
        return f"{value:.0f}"
    return (
        f"{value / 1e3:.1f}k" if value < 99_950 else f"{value / 1e3:.0f}k" if value < 999_500 else f"{value / 1e6:.1f}M"
    )


def rate(value: float | None) -> str:
    """Something per second: `0.4`, `41.2`, `121`, `2.1k`."""
    if value is None:
        return NONE
    return f"{value:.1f}" if value < 99.95 else count(value)


def context(tokens: int | None) -> str:
    """Tokens of a context: `32k`."""
    return NONE if tokens is None else f"{tokens // 1024}k" if tokens >= 1024 else str(tokens)


def duration(value: float | None) -> str:
    """How long something lasts: `12s`, `2m`, `6h`, `2d04h`, `88d`."""
    if value is None:
        return NONE
    whole = int(value)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m"
    if whole < 86400:
        return f"{whole // 3600}h"
    days, hours = whole // 86400, whole % 86400 // 3600
    return f"{days}d{hours:02d}h" if days < 30 else f"{days}d"


def clock(moment: float, zone: tzinfo) -> str:
    """A moment of today as `03:14:02`."""
    return datetime.fromtimestamp(moment, zone).strftime("%H:%M:%S")


def minute(moment: float, zone: tzinfo) -> str:
    """As `03:14`."""
    return datetime.fromtimestamp(moment, zone).strftime("%H:%M")


def date_minute(moment: float, zone: tzinfo) -> str:
    """As `2026-11-22 08:00`."""
    return datetime.fromtimestamp(moment, zone).strftime("%Y-%m-%d %H:%M")


def stamp(moment: float, zone: tzinfo) -> str:
    """As `2026-11-20 03:14:15+08`, with minutes in the offset only where there are some."""
    written = datetime.fromtimestamp(moment, zone).isoformat(" ", "seconds")
    return written.removesuffix(":00") if written[-6] in "+-" else written


def thousands(value: int) -> str:
    """`10,000`."""
    return f"{value:,}"
