"""How the appliance serves: latencies with their course, throughput, load, refusals. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.telemetry.snapshot import Percentiles, ServingFigures, Snapshot
from tui import units
from tui.board import Point
from tui.drawing.box import box, sparkline
from tui.lines import Line, Role, Span, line, stretched
from tui.look import Look


def serving_box(
    snapshot: Snapshot | None, trend: Sequence[Point], width: int, height: int, look: Look, stale: str = ""
) -> list[Line]:
    """height: with the frame."""
    wide = width >= 78
    serving = ServingFigures(seconds=300.0) if snapshot is None else snapshot.serving
    # Of an appliance that has just begun, the window is as long as it runs.
    minutes = round((serving.seconds or 300.0) / 60)
    during = f"{minutes} {look.say('min')}" if minutes else units.duration(serving.seconds)
    title = f"{look.say('Serving, last')} {during}"
    right: Line = (
        line((f"{stale}-", "warn")) if stale else line(f"p50    p95    p99 {look.glyphs.rule * 14}") if wide else ()
    )
    body: list[Line] = []
    if snapshot is not None:
        recent = [point for point in trend if point.time > snapshot.time - serving.seconds]
        body = _wide(snapshot, trend, look) if wide else _narrow(snapshot, recent, look)
    return box(line(title), stretched(body, height - 2), width, look.glyphs, right=right)


def _narrow(snapshot: Snapshot, trend: Sequence[Point], look: Look) -> list[Line]:
    serving = snapshot.serving
    ttft = f" TTFT p50 {_pad(serving.ttft.p50)} p95 {_pad(serving.ttft.p95)} "
    token = f" ITL  p50 {_pad(serving.token.p50)} p95 {_pad(serving.token.p95)} "
    return [
        line(f"{ttft} ", (sparkline([one.ttft for one in trend], 10, look.glyphs), "accent")),
        line(f"{token} ", (sparkline([one.token for one in trend], 10, look.glyphs), "accent")),
        line(f" e2e  p95 {units.seconds(serving.total.p95)}  queue p95 {units.seconds(serving.queue.p95)}"),
        line(
            f" out {units.rate(serving.completion_tokens_per_second)} tok/s"
            f"   in {units.rate(serving.prompt_tokens_per_second)} tok/s"
        ),
        line(
            f" run {_slots(snapshot)}  wait {_queue(snapshot)}  err ",
            _part(serving.failed, serving.requests, 0.01),
            f"  429 {serving.rate_limited}",
        ),
    ]


def _wide(snapshot: Snapshot, trend: Sequence[Point], look: Look) -> list[Line]:
    serving = snapshot.serving
    ended = max(1, sum(serving.finish.values()))
    finish = "  ".join(f"{_finish(name)} {count * 100 // ended}%" for name, count in serving.finish.items())
    return [
        _percentiles("TTFT", serving.ttft, [one.ttft for one in trend], look),
        _percentiles("ITL", serving.token, [one.token for one in trend], look),
        _percentiles("e2e", serving.total, [one.total for one in trend], look),
        _percentiles("queue", serving.queue, [one.queue for one in trend], look),
        line(
            f" output  {units.rate(serving.completion_tokens_per_second)} tok/s"
            f"   prompt {serving.prompt_tokens_per_second:,.0f} tok/s"
            f"   cached {units.share(serving.cached_share)}   req {units.rate(serving.requests_per_second)}/s"
        ),
        line(
            f" running {_slots(snapshot)}   waiting {_queue(snapshot)}   429 {serving.rate_limited}   4xx ",
            _part(serving.refused, serving.requests, 0.2),
            "   5xx ",
            _part(serving.failed, serving.requests, 0.01),
        ),
        line(
            " goodput ",
            (units.share(serving.goodput, 1), _good(serving.goodput)),
            f" {look.say('of requests within the objectives')}",
        ),
        line(f" finish  {finish}" if serving.finish else " finish  -"),
    ]


def _percentiles(name: str, found: Percentiles, course: Sequence[float | None], look: Look) -> Line:
    figures = "".join(f"{units.seconds(value):<7}" for value in (found.p50, found.p95, found.p99))
    return line(f" {name:<7} {figures}  ", (sparkline(course, 42, look.glyphs), "accent"))


def _pad(value: float | None) -> str:
    return f"{units.seconds(value):<5}"


def _finish(name: str) -> str:
    return "tool" if name == "tool_calls" else name


def _slots(snapshot: Snapshot) -> str:
    loaded = [model for model in snapshot.models if model.state in ("ready", "draining")]
    slots = sum(model.slots or 0 for model in loaded)
    return f"{sum(model.running for model in loaded)}/{slots}" if loaded else units.NONE


def _queue(snapshot: Snapshot) -> str:
    waiting = sum(model.waiting for model in snapshot.models)
    depth = max((model.queue_depth_max or 0 for model in snapshot.models), default=0)
    return f"{waiting}/{depth}" if depth else str(waiting)


def _part(count: int, of: int, alarming: float) -> Span:
    if not of:
        return (units.NONE, "")
    part = count / of
    role: Role = "bad" if part >= alarming * 5 else "warn" if part >= alarming else ""
    return (units.share(part, 1), role)


def _good(goodput: float | None) -> Role:
    return "" if goodput is None else "good" if goodput >= 0.95 else "warn" if goodput >= 0.8 else "bad"
