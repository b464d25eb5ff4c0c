"""`appliance status`, `reload` and `whoami`."""

from __future__ import annotations

import typer

from appliance.cli.common import Appliance, ended, print_facts, print_json
from appliance.cli.options import ApprovalOption, ForceOption, How, JsonOption


def status(appliance: Appliance, json: JsonOption = False) -> None:
    """Say how the appliance is doing; exit code 1 when something needs attention, or no daemon runs."""
    found = appliance.ask("/status")
    if json:
        print_json(found)
    else:
        print_facts(found)
    if found.get("degraded") or not found["running"]:
        raise typer.Exit(1)


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


def whoami(appliance: Appliance) -> None:
    """Say who the appliance takes you for, and which roles you have."""
    found = appliance.ask("/whoami")
    typer.echo(f"{found['name']}: {', '.join(found['roles']) or 'no role'}")
