"""Alerts, approvals, the audit log. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from appliance.admin_client import route
from appliance.telemetry.snapshot import AlertFigures
from tui.proposals.proposal import REASON, Field, Proposal


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
        facts=(alert.summary, "It hides no critical alert. A warning is not sent again."),
        fields=(Field("note", "What is being done:", required=True),),
        body=lambda values: {"name": alert.name, "what": alert.what, "note": values["note"]},
        planned=None,
        done=lambda answer: ("acknowledged",),
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
        facts=(alert.summary, f"Nobody is told of it for {seconds // 60} minutes. It stays on the screen."),
        fields=(Field("reason", REASON, required=True),),
        body=lambda values: {
            "name": alert.name,
            "what": alert.what,
            "seconds": seconds,
            "reason": values["reason"],
        },
        planned=None,
        done=lambda answer: (f"silent for {seconds // 60} minutes",),
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
        facts=("Every record is read. It takes a while, and slows nothing down.",),
        planned=None,
        done=_verified,
    )


def approve(found: dict[str, Any], agree: bool) -> Proposal:
    """A second person's word on what another administrator asked for."""
    verb = "approve" if agree else "reject"
    return Proposal(
        title=f"{verb.upper()} {found['action']}",
        verb=verb.capitalize(),
        action=f"approval.{verb}",
        resource=str(found["id"]),
        role="operator",
        path=route("approvals", str(found["id"]), verb),
        command=lambda values: ("approvals", verb, str(found["id"])),
        facts=(f"{found['asked_by']} asks for {found['action']} of {found['resource']}.", str(found["what"])),
        fields=(Field("exact", f"Type {verb}:", exact=verb),) if agree else (),
        planned=None,
        done=lambda answer: (f"{answer['action']} of {answer['asked_by']}: {verb}d",),
    )


def _verified(answer: Any) -> tuple[str, ...]:
    report = answer["report"]
    word = {0: "whole", 1: "TAMPERED WITH", 2: "whole; its end is not sealed yet"}.get(answer["exit_code"], "?")
    return (f"audit log: {word}", *(f"{name}: {value}" for name, value in report.items() if name != "result"))


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
        facts=(f"Under way: {', '.join(acts)}.", "It goes on without you; the audit log says what came of it."),
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
            "Versions, checks, configuration, figures and log lines: names of clients and hosts, no keys, no prompts.",
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
        facts=("An SVG of what is in sight: names of clients and hosts are in it, no secret is.",),
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
        facts=("[ ] a step   { } a minute   Space plays   R is back to now.", "Every second of a day is recorded."),
        fields=(Field("time", "02:30, 2026-11-20 02:30, or 15m:", required=True),),
        planned=None,
    )
