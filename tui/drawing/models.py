"""Models in a line each. Pure."""

from __future__ import annotations

from appliance.telemetry.snapshot import ModelFigures, Snapshot
from tui import units
from tui.drawing.box import level
from tui.lines import Line, Role, fit, fitted, line, shorten
from tui.look import Look

STATE_WORDS = {
    "stopped": "OFF",
    "starting": "LOADING",
    "ready": "READY",
    "draining": "DRAINING",
    "failed": "FAILED",
}


def state_role(model: ModelFigures) -> Role:
    """How a state is shown."""
    return {"ready": "good", "starting": "accent", "draining": "warn", "failed": "bad"}.get(model.state, "dim")  # type: ignore[return-value]


def held_bytes(model: ModelFigures) -> int | None:
    """All that a model holds; None while it holds nothing."""
    return sum(share.bytes for share in model.devices) or None


def free_bytes(snapshot: Snapshot) -> int | None:
    """What is free for a model: of the GPUs together, else of the host."""
    if not snapshot.gpus:
        return snapshot.host.memory_available_bytes
    known = [gpu.free_bytes for gpu in snapshot.gpus if gpu.free_bytes is not None]
    return sum(known) if known else None


def models_title(snapshot: Snapshot | None, look: Look) -> str:
    """How many there are in which state."""
    if snapshot is None:
        return look.say("Models")
    counts = {state: sum(model.state == state for model in snapshot.models) for state in STATE_WORDS}
    said = [
        f"{count} {look.say(word)}"
        for count, word in (
            (counts["ready"] + counts["draining"], "ready"),
            (counts["starting"], "loading"),
            (counts["stopped"], "off"),
            (counts["failed"], "failed"),
        )
        if count
    ]
    return f"{look.say('Models')}: {', '.join(said)}" if said else look.say("Models")


def model_line(model: ModelFigures, snapshot: Snapshot, width: int, look: Look, *, selected: bool) -> Line:
    """One model in the overview."""
    mark = " >" if selected else "  "
    name = fit(shorten(model.id, 16, look.glyphs.cut), 16)
    state: Line = line((f"{look.say(STATE_WORDS[model.state])}", state_role(model)))
    head = line((mark, "cursor" if selected else ""), (name, "cursor" if selected else ""), " ", fitted(state, 7))
    if model.state in ("ready", "draining"):
        last = (
            f"{model.serving.completion_tokens_per_second:.0f} tok/s"
            if model.serving and _writes(model)
            else _idle(model, look)
        )
        body = line(
            f" {look.say('slots')} {model.running}/{model.slots or units.NONE}  kv ",
            (f"{units.share(model.kv_used):>3}", _kv_role(model)),
            f"  {units.short_gib(held_bytes(model)):>5}  {last}",
        )
        if model.waiting:
            body = line(body, (f"  {look.say('wait')} {model.waiting}", "warn"))
        if model.pinned:
            body = line(body, f"  {look.say('pinned')}")
    elif model.state == "starting":
        held = units.short_gib(held_bytes(model))
        body = line(f" {units.share(model.progress)}  {held}")
        if model.need_bytes is not None:
            body = line(body, f" {look.say('of')} {units.short_gib(model.need_bytes)}")
    elif model.state == "failed":
        body = line((f" {model.reason or ''}", "bad"))
    else:
        body = line(f" {_needs(model, snapshot, look)}")
        idle = units.duration(model.idle_seconds)
        if model.idle_seconds is not None:
            body = line(fitted(body, 36), f"{look.say('used')} {idle} {look.say('ago')}")
    return fitted(line(head, body), width)


def models_wide(snapshot: Snapshot, width: int, rows: int, chosen: int, look: Look) -> list[Line]:
    """The overview's table where there is room for everything. chosen: which one is under the cursor."""
    head = (
        f"  {'NAME':<18} {'STATE':<8} {'SLOTS':<12} {'KV':<19} {'MEM':<7} {'TTFT p95':<9} {'TOK/S':<6} "
        f"{'RUN':<3} {'WAIT':<5} {'5 MIN':<8} {'ERR%':<6} {'IDLE':<6} {'CTX':<5} {'PIN':<4} {'FINGERPRINT'}"
    )
    lines: list[Line] = [line((head, "head"))]
    for number, model in enumerate(snapshot.models[: rows - 1]):
        lines.append(fitted(_wide_row(model, snapshot, look, selected=number == chosen), width))
    if len(snapshot.models) > rows - 1:
        lines[-1] = line((f"  +{len(snapshot.models) - rows + 2} {look.say('more models')} (2)", "dim"))
    return lines


def _wide_row(model: ModelFigures, snapshot: Snapshot, look: Look, *, selected: bool) -> Line:
    mark = " >" if selected else "  "
    name = fit(shorten(model.id, 18, look.glyphs.cut), 18)
    state = fit(look.say(STATE_WORDS[model.state]), 8)
    head = line((mark + name, "cursor" if selected else ""), " ", (state, state_role(model)), " ")
    if model.state == "failed":
        return line(head, (model.reason or "", "bad"))
    idle = fit(units.duration(model.idle_seconds) if model.idle_seconds else units.NONE, 7)
    pinned = look.say("yes") if model.pinned else units.NONE
    tail = f"{idle}{units.context(model.n_ctx):<6}{fit(pinned, 5)}{model.system_fingerprint or units.NONE}"
    if model.state == "stopped":
        return line(head, fit(_needs(model, snapshot, look), 83), tail)
    if model.state == "starting":
        return line(head, level(model.progress, 40, look.glyphs), fit(f" {units.share(model.progress)}", 41), tail)
    serving = model.serving
    slots = model.slots or 0
    room = max(0, min(slots, 6))
    part = model.running / slots if slots else None
    slot_cell = line(level(part, room, look.glyphs), f" {model.running}/{model.slots or units.NONE}")
    kv_cell = line(level(model.kv_used, 9, look.glyphs), f" {units.share(model.kv_used):>3}")
    failed = None if serving is None or not serving.requests else serving.failed / serving.requests * 100
    return line(
        head,
        fitted(slot_cell, 13),
        fitted(kv_cell, 19),
        f"{units.short_gib(held_bytes(model)):>6}  ",
        f"{units.seconds(None if serving is None else serving.ttft.p95):<10}",
        f"{_speed(model):<7}{model.running:<4}{model.waiting:<6}",
        f"{units.count(None if serving is None else serving.requests):<9}",
        f"{units.NONE if failed is None else format(failed, '.1f'):<7}",
        tail,
    )


def _speed(model: ModelFigures) -> str:
    return units.rate(model.serving.completion_tokens_per_second) if model.serving and _writes(model) else units.NONE


def _needs(model: ModelFigures, snapshot: Snapshot, look: Look) -> str:
    if model.need_bytes is None:
        return ""
    needs = f"{look.say('needs')} {units.short_gib(model.need_bytes)}"
    free = free_bytes(snapshot)
    if model.fits is None or free is None:
        return needs
    if model.fits:
        return f"{needs}, {look.say('fits in free')} {units.short_gib(free)}"
    return f"{needs}, {look.say('SHORT OF')} {units.short_gib(max(0, model.need_bytes - free))}"


def _writes(model: ModelFigures) -> bool:
    return model.serving is not None and model.serving.completion_tokens_per_second > 0


def _idle(model: ModelFigures, look: Look) -> str:
    return f"{look.say('idle')} {units.duration(model.idle_seconds)}" if model.idle_seconds else ""


def _kv_role(model: ModelFigures) -> Role:
    used = model.kv_used or 0.0
    return "bad" if used >= 0.95 else "warn" if used >= 0.85 else ""
