"""`appliance status`, `reload` and `whoami`."""

from __future__ import annotations

import typer

from appliance.cli.common import (
    DEFAULT_STATE,
    ApprovalOption,
    ConfigOption,
    ForceOption,
    JsonOption,
    StateOption,
    administer,
    ended,
    print_facts,
    print_json,
)


def status(state_dir: StateOption = DEFAULT_STATE, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Say how the appliance is doing; exit code 1 when something needs attention."""
    found = administer(state_dir, config, lambda admin: admin.get("/status"))
    if json:
        print_json(found)
    else:
        print_facts(found)
    if found.get("degraded"):
        raise typer.Exit(1)


def reload(
    state_dir: StateOption = DEFAULT_STATE,
    config: ConfigOption = None,
    force: ForceOption = False,
    approval: ApprovalOption = None,
) -> None:
    """Read appliance.yaml again: all of it or, when anything is wrong, nothing.

    Waits for the result; exit code 1 says that the old configuration still counts. SIGHUP does the same, but only the
    log says what came of it.
    """
    answer = administer(state_dir, config, lambda admin: admin.post("/reload", {"force": force}, approval=approval))
    typer.echo(f"reloaded; {ended(answer)}")
    for key in answer["restart_needed"]:
        typer.echo(f"{key} has changed and counts after a restart", err=True)


def whoami(state_dir: StateOption = DEFAULT_STATE, config: ConfigOption = None) -> None:
    """Say who the appliance takes you for, and which roles you have."""
    found = administer(state_dir, config, lambda admin: admin.get("/whoami"))
    typer.echo(f"{found['name']}: {', '.join(found['roles']) or 'no role'}")
