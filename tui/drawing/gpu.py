"""What the GPUs, or the host where there are none, are doing and holding. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from appliance.telemetry.snapshot import DeviceShare, GpuFigures, ModelFigures, Snapshot
from tui import units
from tui.drawing.box import bar, box, heat, level
from tui.lines import Line, Role, Span, fit, line, shorten, stretched, width_of
from tui.look import Look

_OVERHEAD_BYTES_MIN: Final = 50 * 2**20


def gpu_box(snapshot: Snapshot | None, width: int, height: int, look: Look, stale: str = "") -> list[Line]:
    """Memory, split by whose it is, and load; of several GPUs a line each. height: with the frame.

    stale: how old the figures are, where that is worth saying.
    """
    right: Line = line((f"{stale}-", "warn")) if stale else ()
    wide = width >= 78
    inner = height - 2
    if snapshot is None:
        return box(line("GPU"), stretched([], inner), width, look.glyphs, right=right)
    if not snapshot.gpus:
        body = _host_memory(snapshot, width - 2, inner, look)
        return box(line(look.say("CPU mode")), stretched(body, inner), width, look.glyphs, right=right)
    if len(snapshot.gpus) > 1:
        body = _each(snapshot, width - 2, inner, look)
        title = f"GPU  {len(snapshot.gpus)} x {short_name(snapshot.gpus[0].name)}"
        return box(line(title), stretched(body, inner), width, look.glyphs, right=right)
    gpu = snapshot.gpus[0]
    size = f"{units.gib(gpu.total_bytes)} GiB" if not gpu.memory_unified else look.say("unified memory")
    title = f"GPU 0  {gpu.name}  {size}  {gpu.uuid[:8]}.." if wide else f"GPU 0  {short_name(gpu.name)}  {size}"
    body = _one_wide(gpu, snapshot, inner, look) if wide else _one(gpu, snapshot, width - 2, inner, look)
    return box(line(title), stretched(body, inner), width, look.glyphs, right=right)


def short_name(name: str) -> str:
    """`NVIDIA H100 80GB HBM3` as `H100`; `NVIDIA GeForce RTX 4090` as `RTX 4090`."""
    words = [word for word in name.split() if word not in ("NVIDIA", "GeForce", "Tesla", "Quadro", "Generation")]
    if not words:
        return name
    return " ".join(words[:2]) if words[0] in ("RTX", "GTX") else words[0]


def device_share(model: ModelFigures, gpu: GpuFigures | None) -> DeviceShare | None:
    """What a model holds of a GPU; of the host where there is none."""
    wanted = None if gpu is None else gpu.uuid
    return next((one for one in model.devices if one.gpu == wanted), None)


def _memory_bar(gpu: GpuFigures, models: Sequence[ModelFigures], cells: int, look: Look) -> Line:
    total = gpu.total_bytes or 0
    if not total:
        return bar([], cells, look.glyphs)
    held = [share for model in models if (share := device_share(model, gpu)) is not None]
    weights = sum(share.weights_bytes for share in held)
    rest = sum(share.kv_bytes + share.compute_bytes for share in held)
    glyphs = look.glyphs
    return bar(
        [
            (weights / total, glyphs.weights, "weights"),
            (rest / total, glyphs.kv, "kv"),
            ((gpu.other_bytes or 0) / total, glyphs.other, "other"),
        ],
        cells,
        glyphs,
    )


def _used(gpu: GpuFigures) -> float | None:
    return None if not gpu.total_bytes or gpu.used_bytes is None else gpu.used_bytes / gpu.total_bytes


def _holders(gpu: GpuFigures, snapshot: Snapshot) -> list[tuple[ModelFigures, DeviceShare]]:
    found = [(model, share) for model in snapshot.models if (share := device_share(model, gpu)) is not None]
    return sorted(found, key=lambda one: -one[1].bytes)


def _one(gpu: GpuFigures, snapshot: Snapshot, inner: int, height: int, look: Look) -> list[Line]:
    if gpu.trouble is not None:
        return [line((f" {shorten(gpu.trouble, inner - 2, look.glyphs.cut)}", "bad"))]
    used = _used(gpu)
    lines: list[Line] = [
        line(" mem ", _memory_bar(gpu, snapshot.models, inner - 13, look), (f" {units.share(used):>4}", heat(used)))
    ]
    holders = _holders(gpu, snapshot)
    room = max(0, height - 3)
    shown = holders if len(holders) <= room else holders[: max(0, room - 1)]
    for model, share in shown:
        name = fit(shorten(model.id, 10, look.glyphs.cut), 10)
        lines.append(
            line(
                f"   {name} weights ",
                (f"{units.gib(share.weights_bytes):>4}", "weights"),
                " kv " if _has_overhead(share) else "  kv ",
                (f"{units.gib(share.kv_bytes):>4}", "kv"),
                *(((f"+{units.gib(share.compute_bytes)}", "dim"),) if _has_overhead(share) else ()),
            )
        )
    if len(shown) < len(holders):
        lines.append(line((f"   +{len(holders) - len(shown)} {look.say('more models')}", "dim")))
    lines.append(
        line(
            f"   {look.say('other procs')} {_other(gpu, look)}   {look.say('FREE')} ",
            (units.gib(gpu.free_bytes), "good"),
            " GiB",
        )
    )
    lines.append(_load(gpu))
    return lines


def _has_overhead(share: DeviceShare) -> bool:
    """Whether buffers to compute in and the driver's context are worth a figure."""
    return share.compute_bytes >= _OVERHEAD_BYTES_MIN


def _other(gpu: GpuFigures, look: Look) -> str:
    if gpu.processes_trouble is not None and gpu.other_bytes is None:
        return look.say("n/a")
    return units.gib(gpu.other_bytes)


def _load(gpu: GpuFigures) -> Line:
    return line(
        " util ",
        (units.share(gpu.busy), ""),
        f"  {_number(gpu.temperature_celsius, 'C')}  {_watts(gpu)}  ECC ",
        _counter(gpu.ecc_uncorrected),
        *((("  " + gpu.throttle[0], "warn"),) if gpu.throttle else ()),
    )


def _one_wide(gpu: GpuFigures, snapshot: Snapshot, height: int, look: Look) -> list[Line]:
    if gpu.trouble is not None:
        return [line((f" {gpu.trouble}", "bad"))]
    used = _used(gpu)
    lines: list[Line] = [
        line(" mem  ", _memory_bar(gpu, snapshot.models, 52, look), (f"  {units.share(used)}", heat(used)))
    ]
    holders = _holders(gpu, snapshot)
    room = max(0, height - 6)
    shown = holders if len(holders) <= room else holders[: max(0, room - 1)]
    for model, share in shown:
        line_parts: Line = line(
            f"      {fit(shorten(model.id, 18, look.glyphs.cut), 18)} weights ",
            (f"{units.gib(share.weights_bytes):>4}", "weights"),
            "   kv ",
            (f"{units.gib(share.kv_bytes):>4}", "kv"),
        )
        if model.kv_used:
            line_parts = line(line_parts, f" ({units.share(model.kv_used)} {look.say('used')})")
        if _has_overhead(share):
            line_parts = line(line_parts, f"   {look.say('overhead')} {units.gib(share.compute_bytes)}")
        lines.append(line_parts)
    if len(shown) < len(holders):
        lines.append(line((f"      +{len(holders) - len(shown)} {look.say('more models')}", "dim")))
    other = line(f"      {fit(look.say('other processes'), 18)} ", (f"{_other(gpu, look):>4}", "other"))
    if gpu.processes_trouble is not None:
        other = line(other, (f"   {look.say('processes')}: {gpu.processes_trouble}", "dim"))
    lines.append(other)
    lines.append(line(f"      {fit(look.say('FREE'), 18)}", (f"{units.gib(gpu.free_bytes):>5}", "good"), " GiB"))
    lines.append(line(" util ", level(gpu.busy, 52, look.glyphs), f"  {units.share(gpu.busy)}"))
    lines.append(
        line(
            f"      {_number(gpu.temperature_celsius, 'C')}   {_watts(gpu, ' ')}   SM {_number(gpu.sm_mhz, ' MHz')}"
            f"   mem {units.share(gpu.memory_busy)}   PCIe {_pcie(gpu)}"
        )
    )
    throttle: Line = (
        line((f"   {look.say('throttle')} " + ", ".join(gpu.throttle), "warn"))
        if gpu.throttle
        else line(f"   {look.say('throttle none')}")
    )
    lines.append(
        line("      ECC corr ", str(_known(gpu.ecc_corrected)), " unc ", _counter(gpu.ecc_uncorrected), throttle)
    )
    return lines


def _each(snapshot: Snapshot, inner: int, height: int, look: Look) -> list[Line]:
    lines: list[Line] = []
    for number, gpu in enumerate(snapshot.gpus):
        name = f" {number} {'MIG ' if gpu.parent else ''}"
        if gpu.trouble is not None:
            lines.append(line(name, (shorten(gpu.trouble, inner - 4, look.glyphs.cut), "bad")))
            continue
        used = _used(gpu)
        tail = line(
            (f" {units.share(used):>4}", heat(used)),
            f"  {units.share(gpu.busy):>4} {_number(gpu.temperature_celsius, 'C'):>3}",
        )
        cells = max(4, inner - len(name) - width_of(tail) - 3)
        lines.append(line(name, _memory_bar(gpu, snapshot.models, cells, look), tail))
    if len(lines) > height:
        lines = [*lines[: height - 1], line((f" +{len(lines) - height + 1} GPU", "dim"))]
    return lines


def _host_memory(snapshot: Snapshot, inner: int, height: int, look: Look) -> list[Line]:
    host = snapshot.host
    total, available = host.memory_total_bytes, host.memory_available_bytes
    used = None if not total or available is None else 1 - available / total
    held = [share for model in snapshot.models if (share := device_share(model, None)) is not None]
    parts: list[tuple[float | None, str, Role]] = (
        []
        if not total
        else [
            (sum(share.weights_bytes for share in held) / total, look.glyphs.weights, "weights"),
            (sum(share.kv_bytes + share.compute_bytes for share in held) / total, look.glyphs.kv, "kv"),
        ]
    )
    lines: list[Line] = [line(" mem ", bar(parts, inner - 13, look.glyphs), (f" {units.share(used):>4}", heat(used)))]
    room = max(0, height - 3)
    shares = sorted(
        ((model, share) for model in snapshot.models if (share := device_share(model, None)) is not None),
        key=lambda one: -one[1].bytes,
    )
    for model, share in shares[:room]:
        name = fit(shorten(model.id, 10, look.glyphs.cut), 10)
        lines.append(line(f"   {name} weights {units.gib(share.weights_bytes):>4}  kv {units.gib(share.kv_bytes):>4}"))
    lines.append(line(f"   {look.say('FREE')} ", (units.gib(available), "good"), " GiB"))
    if snapshot.gpu_trouble is not None:
        role: Role = "bad" if snapshot.gpus_expected else "dim"
        said = shorten(f" {look.say('no GPU')}: {snapshot.gpu_trouble}", inner, look.glyphs.cut)
        lines.append(line((said, role)))
    return lines


def _number(value: float | None, unit: str) -> str:
    return units.NONE if value is None else f"{value:.0f}{unit}"


def _known(value: int | None) -> str:
    return units.NONE if value is None else str(value)


def _counter(value: int | None) -> Span:
    return (_known(value), "bad" if value else "")


def _watts(gpu: GpuFigures, gap: str = "") -> str:
    if gpu.power_watts is None:
        return units.NONE
    limit = "" if gpu.power_limit_watts is None else f"/{gpu.power_limit_watts:.0f}"
    return f"{gpu.power_watts:.0f}{limit}{gap}W"


def _pcie(gpu: GpuFigures) -> str:
    if gpu.pcie_receive_bytes_per_second is None or gpu.pcie_transmit_bytes_per_second is None:
        return units.NONE
    return f"{gpu.pcie_receive_bytes_per_second / 1e9:.1f}/{gpu.pcie_transmit_bytes_per_second / 1e9:.1f} GB/s"
