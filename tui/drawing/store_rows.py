"""The models of the store, for a list over a screen: whether their files are whole, what is done about them. Pure."""

from __future__ import annotations

from tui import units
from tui.admin_data import QuarantinedModel, Store, StoredModel, StoreJob, moment
from tui.lines import Line, line
from tui.look import Look
from tui.sentence import sentence

ENDED = ("done", "failed")


def store_rows(store: Store, look: Look) -> list[list[Line]]:
    """Imported ones, then those in quarantine; in the order of `store`."""
    newest = {job.name: job for job in store.jobs}
    stored = [_stored(model, newest.get(model.name), look) for model in store.models]
    return [*stored, *(_quarantined(model, look) for model in store.quarantined)]


def _stored(model: StoredModel, job: StoreJob | None, look: Look) -> list[Line]:
    say, verified = look.say, moment(model.verified)
    when = units.NONE if verified is None else units.date_minute(verified, look.zone)
    about = f"  {units.short_gib(model.bytes)}  {model.quantisation}"
    if model.fault is not None:
        state: Line = line((f"     {say('FAULT')}: {model.fault}", "bad"))
    else:
        state = line((f"     {say('hashes right at')} {when}", "good"))
    rows = [line((model.name, "accent"), about), state]
    return rows if job is None else [*rows, _job(job, look)]


def _job(job: StoreJob, look: Look) -> Line:
    if job.state == "failed":
        return line((f"     {job.kind}: {job.error or look.say('failed')}", "bad"))
    if job.state in ENDED:
        return line((f"     {job.kind}: {look.say('done')}", "dim"))
    share = units.share(job.bytes_done / job.bytes_total if job.bytes_total else None)
    said = sentence(
        "{work} {state}: {share} of {size}",
        work=job.kind,
        state=job.state,
        share=share,
        size=units.short_gib(job.bytes_total),
    )
    return line((f"     {look.say(said)}", "warn"))


def _quarantined(model: QuarantinedModel, look: Look) -> list[Line]:
    since = moment(model.since)
    when = "" if since is None else f" {look.say('since')} {units.date_minute(since, look.zone)}"
    return [
        line((model.name, "bad"), f"  {look.say('in quarantine')}{when}"),
        line((f"     {model.reason}", "dim")),
    ]
