"""The lower half of the models screen: what a model holds, or whether it would fit and what would help. Pure."""

from __future__ import annotations

from appliance.telemetry.snapshot import ModelFigures, Snapshot
from tui import units
from tui.admin_data import Preflight
from tui.drawing.models import free_bytes, held_bytes
from tui.lines import Line, fitted, line, wrapped
from tui.look import Look


def model_panel(
    model: ModelFigures | None, preflight: Preflight | None, snapshot: Snapshot | None, width: int, look: Look
) -> list[Line]:
    """Of the model under the cursor. preflight: where the appliance has said it."""
    rule: Line = ((look.glyphs.rule * width, "dim"),)
    if model is None or snapshot is None:
        return [rule]
    if model.state in ("stopped", "failed"):
        lines = _would_fit(model, preflight, snapshot, width, look)
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
                f" {serving.refused} {look.say('refused')} ({round(serving.seconds / 60)} {look.say('min')})"
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


def _would_fit(
    model: ModelFigures, preflight: Preflight | None, snapshot: Snapshot, width: int, look: Look
) -> list[Line]:
    lines = [line(f" {model.id}  {look.say('preflight')}")]
    if model.state == "failed" and model.reason:
        lines.append(line((f"   {model.reason}", "bad")))
    if preflight is None:
        verdict: Line = ()
        if model.fits is not None:
            verdict = line(
                (f"  {look.say('fits')}", "good") if model.fits else (f"  {look.say('WILL NOT FIT')}", "bad")
            )
        lines.append(
            line(
                f"   {look.say('needs')} {units.gib(model.need_bytes or held_bytes(model))} GiB,"
                f" {look.say('free')} {units.gib(free_bytes(snapshot))}",
                verdict,
            )
        )
        return lines
    lines += _room(preflight, look) if preflight.fits else _no_room(preflight, width, look)
    return lines


def _room(preflight: Preflight, look: Look) -> list[Line]:
    if preflight.evict:
        leave = ", ".join(preflight.evict)
        lines = [line("   ", (look.say("fits once these have left"), "warn"), f": {leave}")]
    else:
        lines = [line("   ", (look.say("fits"), "good"))]
    places = [
        f"{units.gib(size)} GiB {look.say('on')} GPU {number}"
        for number, size in enumerate(preflight.device_bytes)
        if size
    ]
    if preflight.host_bytes is not None:
        places.append(f"{units.gib(preflight.host_bytes)} GiB {look.say('of host memory')}")
    if places:
        lines.append(line(f"   {', '.join(places)}"))
    if preflight.layers:
        speed = preflight.tokens_per_second
        about = "" if speed is None else f", {look.say('about')} {units.rate(speed)} tok/s"
        on_gpu = preflight.gpu_layers or 0
        lines.append(line(f"   {on_gpu} {look.say('of')} {preflight.layers} {look.say('layers on GPUs')}{about}"))
    return lines


def _no_room(preflight: Preflight, width: int, look: Look) -> list[Line]:
    said = look.say("WILL NOT FIT now; it waits until others are idle") if preflight.waits else look.say("WILL NOT FIT")
    reason = wrapped(preflight.reason, max(20, width - 6)) if preflight.reason else []
    return [line("   ", (said, "bad")), *(line(f"   {one}") for one in reason)]
