"""`appliance status`, `reload` and `whoami`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer

from appliance.cli.allow import warn_of_fences
from appliance.cli.common import Appliance, ended, moment, print_facts, print_json
from appliance.cli.options import ApprovalOption, ForceOption, How, JsonOption
from appliance.errors import ApplianceError


def status(appliance: Appliance, json: JsonOption = False) -> None:
    """Say how the appliance is doing; exit code 1 when something needs attention, or no daemon runs.

    `appliance doctor` looks deeper, and says what to do.
    """
    if json:
        found = appliance.ask("/status")
        print_json(found)
    else:
        answers = _asked(appliance, "status", "whoami", "instances", "alerts")
        found = answers["status"]
        if "error" in found:
            raise ApplianceError(found["error"])
        # To be refused is on record: nobody asks for what their role does not see.
        sees = found["running"] and {"operator", "security"} & set(answers["whoami"]["roles"])
        certificates = _asked(appliance, "certificates")["certificates"] if sees else {}
        print_facts(overview(found, answers["instances"], answers["alerts"], certificates))
    if found.get("degraded") or not found["running"]:
        raise typer.Exit(1)


def _asked(appliance: Appliance, *questions: str) -> dict[str, Any]:
    return appliance.ask_each({name: (f"/{name}", {}) for name in questions})


def overview(
    status: Mapping[str, Any], instances: Mapping[str, Any], alerts: Mapping[str, Any], certificates: Mapping[str, Any]
) -> dict[str, object]:
    """The answers of the admin API on one screen; what is not there, or may not be seen, is left out. Pure."""
    if not status["running"]:
        return {"running": False, "generation": status["generation"]}
    degraded = status.get("degraded") or []
    found: dict[str, object] = {"state": "needs attention" if degraded else "well"}
    sections: dict[str, object] = {
        "needs attention": degraded,
        "alerts": [_alert(one) for one in alerts.get("alerts", ()) if one["state"] in ("firing", "acked")],
        "models": _models(status, instances),
        "ends soon": status.get("ending_soon") or [],
        "certificates": _certificates(certificates),
        "connections": _connections(status.get("connections") or {}),
        "audit": status.get("audit"),
        "notes": status.get("notes") or [],
    }
    found |= {name: section for name, section in sections.items() if section}
    return found | {"generation": status["generation"]}


def _alert(one: Mapping[str, Any]) -> str:
    seen = f" (seen by {one['acked_by']})" if one.get("acked_by") else ""
    return f"{one['severity'].upper()} {one['name']} {one['what']}: {one['summary']}{seen}"


def _models(status: Mapping[str, Any], instances: Mapping[str, Any]) -> dict[str, str]:
    """Each with what it is doing; those that other servers serve have a state alone."""
    found = dict(status.get("models") or {})
    for one in instances.get("instances", ()):
        progress = f" {one['progress']:.0%}" if one["state"] == "starting" else ""
        doing = [f"{one[what]} {what}" for what in ("running", "waiting") if one[what]]
        why = f" ({one['reason']})" if one["reason"] else ""
        said = f"{', '.join([one['state'] + progress, *doing])}{why}"
        found[one["id"]] = said if one["generation"] == 1 else f"{found.get(one['id'], '')}; next: {said}"
    return found


def _certificates(certificates: Mapping[str, Any]) -> dict[str, str]:
    if "server" not in certificates:
        return {}
    found = {"server": f"until {moment(certificates['server']['active']['not_after'])}"}
    for one in certificates["authorities"]:
        found[f"{one['name']} CA"] = f"until {moment(one['current']['not_after'])}"
    return found


def _connections(gates: Mapping[str, Mapping[str, int]]) -> dict[str, str]:
    return {name: _gate(one) for name, one in gates.items()}


def _gate(one: Mapping[str, int]) -> str:
    many = one["denied_rate"] + one["denied_cap"]
    turned = f"{one['denied_address']} not in the allowlist, {many} too many"
    return (
        f"{one['open']} open, {one['accepted']} so far; turned away: {turned}, "
        f"{one['handshake_failed']} failed handshakes"
    )


def reload(appliance: Appliance, force: ForceOption = False, approval: ApprovalOption = None) -> None:
    """Read appliance.yaml again: all of it or, when anything is wrong, nothing.

    Waits for the result; exit code 1 says that the old configuration still counts. SIGHUP does the same, but only the
    log says what came of it.
    """
    answer = appliance.act("/reload", {"force": force}, how=How(approval=approval))
    typer.echo(f"reloaded; {ended(answer)}")
    for key in answer["restart_needed"]:
        typer.echo(f"{key} has changed and counts after a restart", err=True)
    for note in answer["notes"]:
        typer.echo(note, err=True)
    warn_of_fences(appliance.ask("/allowlist"))


def whoami(appliance: Appliance) -> None:
    """Say who the appliance takes you for, and which roles you have."""
    found = appliance.ask("/whoami")
    typer.echo(f"{found['name']}: {', '.join(found['roles']) or 'no role'}")
