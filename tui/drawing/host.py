"""The host in one line, and what was done last. Pure."""

from __future__ import annotations

from appliance.telemetry.snapshot import Snapshot
from tui import units
from tui.lines import Line, Span, line
from tui.look import Look

_GIB = 2**30


def host_line(snapshot: Snapshot, width: int, look: Look) -> Line:
    """Processor, memory, disk, clock, audit log."""
    host = snapshot.host
    total, available = host.memory_total_bytes, host.memory_available_bytes
    ram = "-"
    if total and available is not None:
        ram = f"{(total - available) / _GIB:.0f}/{total / _GIB:.0f}"
    disk = "-" if host.disk_free_bytes is None else f"{host.disk_free_bytes / _GIB:.0f}G"
    disk_low = (
        host.disk_free_bytes is not None
        and bool(host.disk_total_bytes)
        and (host.disk_free_bytes / (host.disk_total_bytes or 1) < 0.05)
    )
    synced = host.clock_synchronized
    ntp: Line = line(
        " ntp ", ("-", "dim") if synced is None else ("ok", "good") if synced else (look.say("NOT SYNCED"), "bad")
    )
    audit = snapshot.audit
    audit_said: Span = ("ok", "good") if not audit.trouble else (f"!! {audit.trouble[0]}", "bad")
    up = units.duration(snapshot.time - snapshot.started)
    if width < 160:
        return line(
            (f" {look.say('host')}", "head"),
            f"  cpu {units.share(host.cpu_busy)}  ram {ram}G  {look.say('disk free')} ",
            (disk, "bad" if disk_low else ""),
            " ",
            ntp,
            f"  {look.say('audit')} ",
            audit_said,
            f"  {look.say('up')} {up}",
        )
    net = "-"
    if host.receive_bytes_per_second is not None and host.transmit_bytes_per_second is not None:
        net = f"{host.receive_bytes_per_second / 1e6:.0f}/{host.transmit_bytes_per_second / 1e6:.0f} MB/s"
    swap = "-" if host.swap_used_bytes is None else f"{host.swap_used_bytes / _GIB:.0f}"
    ending = f" ({snapshot.keys_ending} {look.say('expiring')})" if snapshot.keys_ending else ""
    return line(
        (f" {look.say('host')}", "head"),
        f" {snapshot.host_name}   cpu {units.share(host.cpu_busy)} {look.say('of')} {host.cpu_count or '-'}"
        f"   ram {ram} GiB   swap {swap}   {look.say('disk free')} ",
        (disk, "bad" if disk_low else ""),
        f"   net {net}  ",
        ntp,
        f"   {look.say('audit')} ",
        audit_said,
        f" #{units.thousands(audit.records)}   {look.say('keys')} {snapshot.keys_active}{ending}",
    )


def last_action(snapshot: Snapshot | None, look: Look) -> Line:
    """What an administrator, or the appliance by itself, did last."""
    done = None if snapshot is None else snapshot.last_action
    if done is None:
        return ()
    what = f"{done.action} {done.resource}" if done.resource else done.action
    took = "" if done.seconds is None else f" {done.seconds:.1f}s"
    return line(
        f" {look.say('last action')}: {units.minute(done.time, look.zone)} {what} ",
        (done.outcome, "" if done.outcome == "ok" else "warn"),
        f"{took} ({done.actor})",
    )
