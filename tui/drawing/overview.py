"""The first screen: is it well, why is it slow, who is failing. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from appliance.telemetry.request_record import RequestRecord
from appliance.telemetry.snapshot import Snapshot
from tui.board import Point
from tui.drawing.box import box
from tui.drawing.chart import chart_box
from tui.drawing.failures import failure_line
from tui.drawing.frame import WIDE
from tui.drawing.gpu import gpu_box
from tui.drawing.host import host_line
from tui.drawing.models import model_line, models_title, models_wide
from tui.drawing.request_rows import WIDE_COLUMNS, request_head, request_line
from tui.drawing.serving import serving_box
from tui.lines import EMPTY, Line, beside, fitted, line, stretched, styled
from tui.look import Look

# A wide screen of at least this many lines has a chart and a tail of requests.
TALL = 38
Pane = Literal["models", "failures"]


@dataclass(frozen=True, slots=True)
class Cursor:
    """Which pane has the cursor, and on which of its lines it is."""

    pane: Pane = "models"
    models: int = 0
    failures: int = 0


def overview(
    snapshot: Snapshot | None,
    trend: Sequence[Point],
    requests: Sequence[RequestRecord],
    cursor: Cursor,
    width: int,
    height: int,
    look: Look,
    stale: str = "",
) -> list[Line]:
    """The whole body. requests: the newest first. stale: how old the figures are, where that is worth saying."""
    if width >= WIDE and height >= TALL:
        return _wide(snapshot, trend, requests, cursor, width, height, look, stale)
    return _narrow(snapshot, trend, cursor, width, height, look, stale)


def figures_of_before(
    snapshot: Snapshot | None, trend: Sequence[Point], width: int, look: Look, stale: str
) -> list[Line]:
    """The upper boxes, without colour, for what stands below them while the appliance does not answer."""
    left = width // 2
    lines = beside(gpu_box(snapshot, left, 5, look, stale), serving_box(snapshot, trend, width - left, 5, look, stale))
    return [styled(one, "dim") for one in lines]


def _narrow(
    snapshot: Snapshot | None,
    trend: Sequence[Point],
    cursor: Cursor,
    width: int,
    height: int,
    look: Look,
    stale: str,
) -> list[Line]:
    left = width // 2
    spare = max(0, height - 19)
    top = 7 + min(spare // 3, 4)
    lists = max(6, height - top - 5 - 1 - 1)
    models_rows = max(3, min(lists - 3, 0 if snapshot is None else len(snapshot.models)))
    failure_rows = max(1, lists - models_rows)
    lines = beside(
        gpu_box(snapshot, left, top, look, stale), serving_box(snapshot, trend, width - left, top, look, stale)
    )
    inner = width - 2
    lines += box(
        line(models_title(snapshot, look)),
        stretched(_model_lines(snapshot, models_rows, cursor, inner, look), models_rows),
        width,
        look.glyphs,
    )
    lines += box(
        line(f"{look.say('Last failures')} ({look.say('Enter opens in Requests')})"),
        stretched(_failure_lines(snapshot, failure_rows, cursor, inner, look), failure_rows),
        width,
        look.glyphs,
    )
    lines.append(EMPTY if snapshot is None else host_line(snapshot, width, look))
    return lines


def _wide(
    snapshot: Snapshot | None,
    trend: Sequence[Point],
    requests: Sequence[RequestRecord],
    cursor: Cursor,
    width: int,
    height: int,
    look: Look,
    stale: str,
) -> list[Line]:
    left = (width - 2) // 2
    top = 10
    lines = beside(
        gpu_box(snapshot, left, top, look, stale), serving_box(snapshot, trend, width - left, top, look, stale)
    )
    now = snapshot.time if snapshot is not None else 0.0
    lines += chart_box(trend, now, width, 8, look)
    inner = width - 2
    models_rows = 4 if snapshot is None else max(4, min(9, len(snapshot.models) + 1))
    chosen = cursor.models if cursor.pane == "models" else -1
    models = [] if snapshot is None else models_wide(snapshot, inner, models_rows, chosen, look)
    if snapshot is not None and not snapshot.models:
        models = [_none(look.say("No model yet. Add one to models.yaml, or: appliance models import FILE"))]
    lines += box(line(look.say("Models")), stretched(models, models_rows), width, look.glyphs)
    rest = max(1, height - len(lines) - 3)
    lines += box(
        line(f"{look.say('Requests')} ({look.say('newest first; 3 = full screen, with filter and detail')})"),
        stretched(_request_lines(requests, rest, inner, look), rest),
        width,
        look.glyphs,
    )
    lines.append(EMPTY if snapshot is None else host_line(snapshot, width, look))
    return lines


def _model_lines(snapshot: Snapshot | None, rows: int, cursor: Cursor, width: int, look: Look) -> list[Line]:
    if snapshot is None:
        return []
    if not snapshot.models:
        return [_none(look.say("No model yet. Add one to models.yaml, or: appliance models import FILE"))]
    first = _first(cursor.models, len(snapshot.models), rows)
    return [
        model_line(model, snapshot, width, look, selected=cursor.pane == "models" and number == cursor.models)
        for number, model in enumerate(snapshot.models[first : first + rows], first)
    ]


def _failure_lines(snapshot: Snapshot | None, rows: int, cursor: Cursor, width: int, look: Look) -> list[Line]:
    if snapshot is None:
        return []
    if not snapshot.failures:
        return [_none(look.say("No failures"))]
    first = _first(cursor.failures, len(snapshot.failures), rows)
    return [
        failure_line(one, width, look, selected=cursor.pane == "failures" and number == cursor.failures)
        for number, one in enumerate(snapshot.failures[first : first + rows], first)
    ]


def _request_lines(requests: Sequence[RequestRecord], rows: int, width: int, look: Look) -> list[Line]:
    if not requests:
        return [_none(look.say("No requests yet"))]
    head = fitted(request_head(WIDE_COLUMNS, look), width)
    return [head, *(fitted(request_line(one, WIDE_COLUMNS, look), width) for one in requests[: rows - 1])]


def _none(said: str) -> Line:
    return line((f"  {said}", "dim"))


def _first(chosen: int, count: int, rows: int) -> int:
    """The first line that is shown, so that the chosen one is."""
    return max(0, min(chosen - rows + 1 if chosen >= rows else 0, count - rows))
