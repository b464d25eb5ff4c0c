"""Alerts, approvals, the audit log. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from appliance.admin_client import route
from appliance.telemetry.snapshot import AlertFigures
from tui.proposals.proposal import REASON, Field, Proposal
from tui.sentence import Sentence, as_written, sentence


def ack(alert: AlertFigures) -> Proposal:
    """Somebody attends to it. A critical one stays on the screen."""
    return Proposal(
        title="ACKNOWLEDGE ALERT",
        verb="Acknowledge",
        action="alert.ack",
        resource=f"{alert.name} {alert.what}",
        role="operator",
        path="/alerts/ack",
        command=lambda values: ("alerts", "ack", alert.name, "--of", alert.what, "--note", values["note"]),
        facts=(
            as_written(alert.summary),
            sentence("It hides no critical alert. A warning is not sent again."),
        ),
        fields=(Field("note", "What is being done:", required=True),),
        body=lambda values: {"name": alert.name, "what": alert.what, "note": values["note"]},
        planned=None,
        done=lambda answer: (sentence("acknowledged"),),
    )


def silence(alert: AlertFigures, seconds: int = 3600) -> Proposal:
    """Nobody is told of it for a while."""
    return Proposal(
        title="SILENCE ALERT",
        verb="Silence",
        action="alert.silence",
        resource=f"{alert.name} {alert.what}",
        role="operator",
        path="/alerts/silence",
        command=lambda values: (
            *("alerts", "silence", alert.name, "--of", alert.what, "--for", f"{seconds // 60}m"),
            *("--reason", values["reason"]),
        ),
        facts=(
            as_written(alert.summary),
            sentence("Nobody is told of it for {minutes} minutes. It stays on the screen.", minutes=seconds // 60),
        ),
        fields=(Field("reason", REASON, required=True),),
        body=lambda values: {
            "name": alert.name,
            "what": alert.what,
            "seconds": seconds,
            "reason": values["reason"],
        },
        planned=None,
        done=lambda answer: (sentence("silent for {minutes} minutes", minutes=seconds // 60),),
    )


def verify() -> Proposal:
    """Checks the audit log's chain and seals."""
    return Proposal(
        title="VERIFY THE AUDIT LOG",
        verb="Verify",
        action="audit.verify",
        resource="audit log",
        role="auditor",
        path="/audit/verify",
        command=lambda values: ("audit", "verify"),
        facts=(sentence("Every record is read. It takes a while, and slows nothing down."),),
        planned=None,
        done=_verified,
    )


def approve(found: dict[str, Any], agree: bool) -> Proposal:
    """A second person's word on what another administrator asked for."""
    verb = "approve" if agree else "reject"
    return Proposal(
        title="APPROVE" if agree else "REJECT",
        verb="Approve" if agree else "Reject",
        action=f"approval.{verb}",
        resource=str(found["id"]),
        role="operator",
        path=route("approvals", str(found["id"]), verb),
        command=lambda values: ("approvals", verb, str(found["id"])),
        facts=(
            sentence(
                "{who} asks for {action} of {resource}.",
                who=found["asked_by"],
                action=found["action"],
                resource=found["resource"],
            ),
            as_written(str(found["what"])),
        ),
        fields=(Field("exact", sentence("Type {word}:", word=verb), exact=verb),) if agree else (),
        planned=None,
        done=lambda answer: (
            sentence(
                "{action} of {who}: approved" if agree else "{action} of {who}: rejected",
                action=answer["action"],
                who=answer["asked_by"],
            ),
        ),
    )


def _verified(answer: Any) -> tuple[Sentence, ...]:
    report = answer["report"]
    match answer["exit_code"]:
        case 0:
            word = sentence("the audit log is whole")
        case 2:
            word = sentence("the audit log is whole; its end is not sealed yet")
        case _:
            word = sentence("the audit log is TAMPERED WITH")
    return (word, *(as_written(f"{name}: {value}") for name, value in report.items() if name != "result"))


def leave(acts: Sequence[str]) -> Proposal:
    """Closes the dashboard while the appliance works on something."""
    return Proposal(
        title="LEAVE THE DASHBOARD",
        verb="Leave",
        action="leave",
        resource="-",
        role="viewer",
        path="",
        command=lambda values: ("audit", "tail"),
        facts=(
            sentence("Under way: {acts}.", acts=", ".join(acts)),
            sentence("It goes on without you; the audit log says what came of it."),
        ),
    )


def diagnose(appliance: tuple[str, ...], out: str) -> Proposal:
    """Writes what somebody far away needs to help. appliance: options that name it."""
    return Proposal(
        title="WRITE DIAGNOSE BUNDLE",
        verb="Write",
        action="diagnose",
        resource="-",
        role="viewer",
        path="",
        command=lambda values: ("diagnose", "bundle", *appliance, "--out", values["out"]),
        facts=(
            sentence(
                "Versions, checks, configuration, figures, log lines: names of clients and hosts, no keys, no prompts."
            ),
        ),
        fields=(Field("out", "File:", out, required=True),),
        planned=None,
    )


def screenshot(screen: str, out: str) -> Proposal:
    """Writes what is in sight as a picture."""
    return Proposal(
        title="SCREENSHOT",
        verb="Write",
        action="screenshot",
        resource="-",
        role="viewer",
        path="",
        command=lambda values: ("top", "--screenshot", values["out"], "--screen", screen),
        facts=(sentence("An SVG of what is in sight: names of clients and hosts are in it, no secret is."),),
        fields=(Field("out", "File:", out, required=True),),
        planned=None,
    )


def replay_from() -> Proposal:
    """Shows what it was like at a time, from the flight recorder."""
    return Proposal(
        title="REPLAY FROM A TIME",
        verb="Show",
        action="replay",
        resource="-",
        role="viewer",
        path="",
        command=lambda values: ("top",),
        facts=(
            sentence("[ ] a step   {{ }} a minute   Space plays   R is back to now."),
            sentence("Every second of a day is recorded."),
        ),
        fields=(Field("time", "02:30, 2026-11-20 02:30, or 15m:", required=True),),
        planned=None,
    )
