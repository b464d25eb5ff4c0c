"""The overview as plain text, once: for scripts, and for terminals that can show nothing else."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from typing import Final

import msgspec

from appliance.errors import ApplianceError
from tui.board import Board
from tui.drawing import frame
from tui.drawing.host import last_action
from tui.drawing.overview import Cursor, overview
from tui.ingest import safe, safe_update
from tui.lines import ascii_only, line, texts
from tui.look import Look
from tui.source import Source, SourceLost

WIDTH_MAX: Final = 200
_HEIGHT: Final = 19


async def first_snapshot(source: Source, *, read_only: bool) -> Board:
    """What the source says first. Raises ApplianceError."""
    board = Board(source.where, recorded=source.recorded, interval=source.interval, read_only=read_only)
    try:
        board.identity = safe(await source.identity())
        async with aclosing(source.updates()) as updates:
            async for update in updates:
                board.take(safe_update(update), 0.0)
                if board.snapshot is not None:
                    break
    except SourceLost as lost:
        raise ApplianceError(
            f"no appliance answers at {source.where}: {lost}; start it, or name another one with --state-dir or --host"
        ) from lost
    finally:
        await source.close()
    return board


def as_text(board: Board, wall: Callable[[], float], width: int, look: Look) -> str:
    """Title, alerts and overview; every alert has a line of its own."""
    width = max(frame.WIDTH_MIN, min(width, WIDTH_MAX))
    snapshot = board.snapshot
    lines = [frame.title(board, 0.0, wall(), width, look)]
    for alert in board.firing:
        mark = "!! CRIT" if alert.severity == "critical" else "! WARN"
        lines.append(line(f" {mark} {alert.name} {alert.what}: {alert.summary}"))
    more = () if snapshot is None else (len(snapshot.models) - 3, len(snapshot.failures) - 3)
    height = _HEIGHT + sum(max(0, rows) for rows in more)
    # Without a cursor: it would mean nothing here.
    lines += overview(snapshot, board.trend, (), Cursor(models=-1), width, height, look)
    lines.append(last_action(snapshot, look))
    written = "\n".join(texts(lines))
    return ascii_only(written) if look.glyphs.ascii else written


def as_json(board: Board) -> str:
    """The snapshot, as the admin API has it."""
    return msgspec.json.format(msgspec.json.encode(board.snapshot), indent=2).decode()
