"""The allowlist: staging, making it count on trial, keeping it or not. Pure."""

from __future__ import annotations

from typing import Any, Final

from tui.admin_data import AllowEntry, Allowlist
from tui.proposals.proposal import Field, Proposal
from tui.sentence import Sentence, as_written, sentence

CONFIRM_SECONDS: Final = 60
_SHOWN_MAX: Final = 3


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
            *(("--comment", values["comment"]) if values["comment"] else ()),
        ),
        facts=(sentence("Nothing changes until it is applied (A)."),),
        fields=(
            Field("network", "Network or address:", network, required=True),
            Field("listener", "Listener (empty: every one):", listener),
            Field("comment", "Note:"),
        ),
        body=lambda values: {
            "add": [
                {
                    "network": values["network"],
                    "listener": values["listener"] or None,
                    "comment": values["comment"],
                }
            ]
        },
        planned=None,
        done=_staged,
    )


def edit(entry: AllowEntry) -> Proposal:
    """Stages another note for an entry; who may connect stays the same."""
    listener = ("--listener", entry.listener) if entry.listener else ()
    return Proposal(
        title="EDIT AN ENTRY",
        verb="Stage",
        action="allow.stage",
        resource=entry.network,
        role="security",
        path="/allowlist/stage",
        command=lambda values: ("allow", "add", entry.network, *listener, "--comment", values["comment"]),
        facts=(
            as_written(f"- {entry.network} {entry.comment}".rstrip()),
            sentence("Nothing changes until it is applied (A)."),
        ),
        fields=(Field("comment", "Note:", entry.comment, required=True),),
        body=lambda values: {
            "add": [{"network": entry.network, "listener": entry.listener, "comment": values["comment"]}]
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
            sentence("{count} connections in 24 h.", count=entry.hits)
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
            sentence("It is undone by itself in {seconds} s unless you keep it (K).", seconds=CONFIRM_SECONDS),
        ),
        fields=(Field("exact", "Type apply:", exact="apply"),),
        body=lambda values: {"confirm_seconds": CONFIRM_SECONDS},
        planned=lambda answer: (
            sentence("Checked: no address of the last 24 hours is shut out, yours among them."),
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


def _entry(sign: str, entry: AllowEntry) -> Sentence:
    if entry.listener is not None:
        return as_written(f"  {sign} {entry.network} {entry.listener}")
    return sentence("  {sign} {network} every listener", sign=sign, network=entry.network)


def _staged(answer: Any) -> tuple[Sentence, ...]:
    staged = answer["staged"]
    return (
        sentence("staged: {added} added, {removed} removed", added=len(staged["add"]), removed=len(staged["remove"])),
    )
