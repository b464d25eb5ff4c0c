"""One request in full, under the list. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from appliance.telemetry.request_record import AnswerEvidence, RequestRecord
from tui import units
from tui.drawing.failures import status_role
from tui.drawing.request_rows import failed
from tui.lines import Line, fitted, line, shorten
from tui.look import Look

_HOUR = 3600.0
LINES = 8


def request_detail(record: RequestRecord, all_records: Iterable[RequestRecord], width: int, look: Look) -> list[Line]:
    """Where from, who, when and how long, how it was to be answered, what went wrong; its key's last hour."""
    cut = look.glyphs.cut
    rule = f"{look.glyphs.rule * 2} {shorten(record.id, 40, cut)} "
    stream = units.NONE if record.stream is None else str(record.stream).lower()
    lines: list[Line] = [
        line((rule + look.glyphs.rule * max(0, width - len(rule)), "dim")),
        line(
            f" {record.method} {record.path}  stream={stream}"
            f"  {look.say('client')} {record.address}  {look.say('status')} ",
            (str(record.status) if record.status else look.say("client gone"), status_role(record.status or 499)),
            f"  {record.outcome}",
        ),
        line(
            f" {look.say('key')} {record.key_id or units.NONE} {look.name(record.principal, record.key_id)}"
            f"   {look.say('model')} {record.model or units.NONE}{_names(record, look)}"
            f"   {look.say('finish')} {record.finish_reason or units.NONE}"
        ),
        line(
            f" {look.say('arrived')} {units.clock(record.time, look.zone)}.{int(record.time % 1 * 1000):03d}"
            f"  queue {units.seconds(record.queue_seconds)}  prefill {units.seconds(record.prefill_seconds)}"
            f"  decode {units.seconds(record.decode_seconds)}"
            f"  {look.say('total')} {units.seconds(record.total_seconds)}"
        ),
        line(
            f" tokens {look.say('in')} {record.prompt_tokens} ({record.cached_tokens} {look.say('cached')})"
            f"  {look.say('out')} {record.completion_tokens}  ttft {units.seconds(record.ttft_seconds)}"
            f"  {look.say('tries')} {record.attempts}  {record.system_fingerprint or ''}"
        ),
        line(f" {_settings(record.evidence, look)}" if record.evidence else (f" params {units.NONE}", "dim")),
        line(f" {look.say('error')} ", (record.error_code, "bad"))
        if record.error_code
        else line((f" {look.say('no error')}", "dim")),
        _same_key(record, all_records, look),
    ]
    return [fitted(one, width) for one in lines]


def _names(record: RequestRecord, look: Look) -> str:
    said = f" ({record.alias})" if record.alias else ""
    if record.failed_models:
        said += f" {look.say('instead of')} {', '.join(record.failed_models)}"
    return said + (f" {look.say('mirrored')}" if record.mirrored else "")


def _settings(evidence: AnswerEvidence, look: Look) -> str:
    settings = "  ".join(f"{name} {value:g}" for name, value in evidence.sampling.items())
    length = "" if evidence.max_tokens is None else f"max_tokens {evidence.max_tokens}  "
    seed = "" if evidence.seed is None else f"seed {evidence.seed}  "
    return f"params {length}{seed}{settings}" if length or seed or settings else look.say("params as by default")


def _same_key(record: RequestRecord, all_records: Iterable[RequestRecord], look: Look) -> Line:
    key, who, since = record.key_id, record.principal, record.time - _HOUR
    same = [one for one in all_records if one.key_id == key and one.principal == who and one.time > since]
    wrong = sum(failed(one) for one in same)
    ok = len(same) - wrong
    said = look.say("same key, last hour" if record.key_id else "without a key, last hour")
    return line(
        f" {said}: {ok} ok, ",
        (f"{wrong} {look.say('failed')}", "warn" if wrong else ""),
        (f"     {look.say('y=copy id  J=JSON  K=its requests')}", "dim"),
    )
