"""The lower half of the models screen: what a model holds, or whether it would fit and what would help. Pure."""

from __future__ import annotations

from appliance.telemetry.snapshot import ModelFigures, Snapshot
from tui import units
from tui.admin_data import Preflight, PreflightWay
from tui.drawing.models import free_bytes, held_bytes
from tui.lines import Line, fit, fitted, line
from tui.look import Look


def model_panel(
    model: ModelFigures | None, preflight: Preflight | None, snapshot: Snapshot | None, width: int, look: Look
) -> list[Line]:
    """Of the model under the cursor. preflight: where the appliance has said it."""
    rule: Line = ((look.glyphs.rule * width, "dim"),)
    if model is None or snapshot is None:
        return [rule]
    if model.state in ("stopped", "failed"):
        lines = _would_fit(model, preflight, snapshot, look)
    else:
        lines = _holds(model, look)
    return [fitted(one, width) for one in (rule, *lines)]


def _holds(model: ModelFigures, look: Look) -> list[Line]:
    lines = [
        line(
            f" {model.id}  ",
            (model.description or "", "dim"),
            f"   {look.say('aliases')} {', '.join(model.aliases) or units.NONE}",
        )
    ]
    for share in model.devices:
        where = "GPU " + share.gpu[:12] if share.gpu else look.say("host memory")
        lines.append(
            line(
                f"   {where}: weights {units.gib(share.weights_bytes)} + kv {units.gib(share.kv_bytes)}"
                f" + compute {units.gib(share.compute_bytes)}  =  {units.gib(share.bytes)} GiB"
            )
        )
    serving = model.serving
    if serving is not None:
        lines.append(
            line(
                f"   TTFT p50 {units.seconds(serving.ttft.p50)} p95 {units.seconds(serving.ttft.p95)}"
                f"  {serving.requests} {look.say('requests')}, {serving.failed} {look.say('failed')},"
                f" {serving.refused} {look.say('refused')} ({round(serving.seconds / 60)} min)"
            )
        )
    lines.append(
        line(
            f"   {look.say('load took')} {units.seconds(model.load_seconds)}  {look.say('restarts')} {model.restarts}"
            f"  {look.say('preemptions')} {model.preemptions}  {model.system_fingerprint or ''}"
        )
    )
    if model.expires_seconds is not None:
        lines.append(line(f"   {look.say('unloaded for want of use in')} {units.duration(model.expires_seconds)}"))
    if model.reason:
        lines.append(line((f"   {model.reason}", "warn")))
    if model.base_urls:
        lines.append(line(f"   {look.say('served by')} {', '.join(model.base_urls)}"))
    return lines


def _would_fit(model: ModelFigures, preflight: Preflight | None, snapshot: Snapshot, look: Look) -> list[Line]:
    lines = [line(f" {model.id}  preflight")]
    if model.state == "failed" and model.reason:
        lines.append(line((f"   {model.reason}", "bad")))
    if preflight is None:
        verdict: Line = ()
        if model.fits is not None:
            verdict = line(("  fits", "good") if model.fits else (f"  {look.say('WILL NOT FIT')}", "bad"))
        lines.append(
            line(
                f"   {look.say('needs')} {units.gib(model.need_bytes or held_bytes(model))} GiB,"
                f" {look.say('free')} {units.gib(free_bytes(snapshot))}",
                verdict,
            )
        )
        return lines
    lines.append(
        line(
            f"   weights {units.gib(preflight.weights_bytes)} + kv {units.gib(preflight.kv_bytes)}"
            f" ({units.context(model.n_ctx)} x {model.slots or 1} slot)"
            f" + overhead {units.gib(preflight.overhead_bytes)}"
            f"  =  {units.gib(preflight.need_bytes)} GiB"
        )
    )
    short = preflight.need_bytes - preflight.free_bytes
    lines.append(
        line(
            f"   {look.say('free')} {units.gib(preflight.free_bytes)} GiB  ",
            (look.say("fits"), "good")
            if preflight.fits
            else (f"{look.say('WILL NOT FIT')}, {look.say('short')} {units.gib(short)}", "bad"),
            f"  {look.say('loads in about')} {units.duration(preflight.seconds)}" if preflight.seconds else "",
        )
    )
    lines += [_way(number, way, look) for number, way in enumerate(preflight.ways, 1)]
    if preflight.file:
        lines.append(line((f"   {preflight.file}", "dim")))
    return lines


def _way(number: int, way: PreflightWay, look: Look) -> Line:
    size = ""
    if way.need_bytes is not None:
        size = f"= {units.gib(way.need_bytes):>5}"
    elif way.frees_bytes is not None:
        size = f"+ {units.gib(way.frees_bytes):>5}"
    verdict = (
        line((look.say("fits"), "good"), f", {way.note}" if way.note else "")
        if way.fits
        else line((f"{look.say('still short')} {units.gib(way.short_bytes)}", "warn"))
    )
    return line(f"   {number}) {fit(way.what, 36)} {size:<8}  ", verdict)
