"""The allowlist: staging, making it count on trial, keeping it or not. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from appliance.admin_client import end_of
from tui.admin_data import AllowEntry, Allowlist, Fenced, read
from tui.proposals.proposal import Field, Proposal, Values
from tui.sentence import Sentence, as_written, sentence

CONFIRM_SECONDS: Final = 60
_SHOWN_MAX: Final = 3
_END_LABEL: Final = "Ends (7d, or a UTC time; empty: never):"


def add(network: str = "", listener: str = "") -> Proposal:
    """Stages an entry. network, listener: filled in already."""
    return Proposal(
        title="STAGE AN ENTRY",
        verb="Stage",
        action="allow.stage",
        resource="allowlist",
        role="security",
        path="/allowlist/stage",
        command=lambda values: (
            "allow",
            "add",
            values["network"],
            *(("--listener", values["listener"]) if values["listener"] else ()),
            *_end_options(values),
            *(("--comment", values["comment"]) if values["comment"] else ()),
        ),
        facts=(sentence("Nothing changes until it is applied (A)."),),
        fields=(
            Field("network", "Network or address:", network, required=True),
            Field("listener", "Listener (empty: every one):", listener),
            Field("until", _END_LABEL),
            Field("comment", "Note:"),
        ),
        body=lambda values: {
            "add": [
                {
                    "network": values["network"],
                    "listener": values["listener"] or None,
                    "comment": values["comment"],
                    **_end(values),
                }
            ]
        },
        planned=None,
        done=_staged,
    )


def edit(entry: AllowEntry) -> Proposal:
    """Stages another note for an entry, or another end."""
    listener = ("--listener", entry.listener) if entry.listener else ()
    return Proposal(
        title="EDIT AN ENTRY",
        verb="Stage",
        action="allow.stage",
        resource=entry.network,
        role="security",
        path="/allowlist/stage",
        command=lambda values: (
            "allow",
            "add",
            entry.network,
            *listener,
            *_end_options(values),
            "--comment",
            values["comment"],
        ),
        facts=(
            as_written(f"- {entry.network} {entry.comment}".rstrip()),
            sentence("Nothing changes until it is applied (A)."),
        ),
        fields=(
            Field("comment", "Note:", entry.comment),
            Field("until", _END_LABEL, "" if entry.until is None else _as_typed(entry.until)),
        ),
        body=lambda values: {
            "add": [
                {
                    "network": entry.network,
                    "listener": entry.listener,
                    "comment": values["comment"],
                    **_end(values),
                }
            ]
        },
        planned=None,
        done=_staged,
    )


def remove(entry: AllowEntry) -> Proposal:
    """Stages that an entry goes."""
    used = bool(entry.hits)
    return Proposal(
        title="STAGE A REMOVAL",
        verb="Stage",
        action="allow.stage",
        resource=entry.network,
        role="security",
        path="/allowlist/stage",
        command=lambda values: ("allow", "remove", entry.network),
        facts=(
            as_written(f"{entry.network} {entry.comment}".strip()),
            sentence("{count} requests in 24 h.", count=entry.hits)
            if used
            else sentence("Nothing changes until it is applied (A)."),
        ),
        fields=(Field("exact", "Type the network:", exact=entry.network),) if used else (),
        body=lambda values: {"remove": [entry.network]},
        done=_staged,
    )


def discard() -> Proposal:
    """Forgets what is staged."""
    return Proposal(
        title="DISCARD WHAT IS STAGED",
        verb="Discard",
        action="allow.discard",
        resource="allowlist",
        role="security",
        path="/allowlist/discard",
        command=lambda values: ("allow", "discard"),
        done=lambda answer: (sentence("nothing is staged"),),
    )


def apply(found: Allowlist) -> Proposal:
    """Makes what is staged count, and go again unless it is kept."""
    staged = found.staged
    return Proposal(
        title="APPLY THE ALLOWLIST",
        verb="Apply",
        action="allow.apply",
        resource="allowlist",
        role="security",
        path="/allowlist/apply",
        command=lambda values: ("allow", "apply", "--confirm", str(CONFIRM_SECONDS)),
        facts=(
            sentence("{added} added, {removed} removed.", added=len(staged.add), removed=len(staged.remove)),
            *(_entry("+", one) for one in staged.add[:_SHOWN_MAX]),
            *(_entry("-", one) for one in staged.remove[:_SHOWN_MAX]),
            *fenced(found.fenced),
            sentence("It is undone by itself in {seconds} s unless you keep it (K).", seconds=CONFIRM_SECONDS),
        ),
        fields=(Field("exact", "Type apply:", exact="apply"),),
        body=lambda values: {"confirm_seconds": CONFIRM_SECONDS},
        planned=lambda answer: (
            sentence("Checked: no address of the last 24 hours is shut out, yours among them."),
            *(
                sentence("{address} is shut out at {until} UTC", address=one["address"], until=_as_typed(one["until"]))
                for one in answer.get("ending_sooner", ())[:_SHOWN_MAX]
            ),
            sentence("Connections that end: {count}.", count=answer.get("cut", 0)),
        ),
        done=lambda answer: (
            sentence(
                "on trial; K keeps it, or it is undone; connections that ended: {count}", count=answer.get("cut", 0)
            ),
        ),
        guarded=True,
    )


def keep() -> Proposal:
    """Keeps what is on trial."""
    return Proposal(
        title="KEEP WHAT IS ON TRIAL",
        verb="Keep",
        action="allow.confirm",
        resource="allowlist",
        role="security",
        path="/allowlist/confirm",
        command=lambda values: ("allow", "confirm"),
        facts=(sentence("It goes over a new connection: that one came through shows that you are not shut out."),),
        planned=None,
        done=lambda answer: (sentence("kept"),),
    )


def revert() -> Proposal:
    """Undoes what is on trial."""
    return Proposal(
        title="UNDO WHAT IS ON TRIAL",
        verb="Undo",
        action="allow.revert",
        resource="allowlist",
        role="security",
        path="/allowlist/revert",
        command=lambda values: ("allow", "revert"),
        facts=(sentence("What is undone is staged again."),),
        done=lambda answer: (sentence("undone, and staged again"),),
    )


def fenced(found: Sequence[Fenced]) -> tuple[Sentence, ...]:
    """Whom the list lets in and systemd's units keep out, in one line; nothing where they keep out nobody."""
    if not found:
        return ()
    networks = dict.fromkeys(network for one in found for network in one.networks)
    more = f" +{len(networks) - _SHOWN_MAX}" if len(networks) > _SHOWN_MAX else ""
    shown = ", ".join(list(networks)[:_SHOWN_MAX]) + more
    units = ", ".join(one.unit for one in found)
    return (sentence("IPAddressAllow= of {units} keeps out {networks}", units=units, networks=shown),)


def _end(values: Values) -> dict[str, object]:
    """What is no end goes as it was typed: the appliance says what is wrong with it."""
    try:
        return end_of(values["until"])
    except ValueError:
        return {"until": values["until"]}


def _end_options(values: Values) -> tuple[str, ...]:
    end = _end(values)
    return () if not end else ("--for" if "for_seconds" in end else "--until", values["until"].strip())


def _as_typed(moment: str) -> str:
    """A time of an answer, which is UTC, to the second."""
    return moment[:19].replace("T", " ")


def _entry(sign: str, entry: AllowEntry) -> Sentence:
    if entry.listener is not None:
        return as_written(f"  {sign} {entry.network} {entry.listener}")
    return sentence("  {sign} {network} every listener", sign=sign, network=entry.network)


def _staged(answer: Any) -> tuple[Sentence, ...]:
    staged = answer["staged"]
    return (
        sentence("staged: {added} added, {removed} removed", added=len(staged["add"]), removed=len(staged["remove"])),
        *fenced(read(tuple[Fenced, ...], answer.get("fenced", ()))),
    )
