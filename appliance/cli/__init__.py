"""The `appliance` command."""

from __future__ import annotations

import sys

from appliance.cli import (
    alerts,
    allow,
    approvals,
    audit,
    backup,
    capture,
    certs,
    clients,
    dashboard,
    diagnose,
    doctor,
    evidence,
    first_run,
    instances,
    keys,
    logs,
    models,
    requests,
    rollouts,
    secrets,
    serving,
    state,
)
from appliance.cli.common import complain
from appliance.cli.options import CommandGroup
from appliance.errors import ApplianceError

app = CommandGroup("Serves local GGUF models over mutual TLS.")
for command in (
    serving.serve,
    serving.check,
    serving.run,
    state.status,
    instances.ps,
    state.reload,
    instances.drain,
    instances.resume,
    doctor.doctor,
    logs.logs,
    requests.usage,
    evidence.evidence,
    state.whoami,
    serving.version,
    first_run.first_run,
):
    app.command()(command)
app.command("top")(dashboard.top)
app.command("tui")(dashboard.top)
instances.add_to(models.app)
rollouts.add_to(models.app)
for name, group in (
    ("clients", clients.app),
    ("keys", keys.app),
    ("certs", certs.app),
    ("models", models.app),
    ("requests", requests.app),
    ("allow", allow.app),
    ("alerts", alerts.app),
    ("audit", audit.app),
    ("capture", capture.app),
    ("secrets", secrets.app),
    ("approvals", approvals.app),
    ("backup", backup.app),
    ("diagnose", diagnose.app),
):
    app.add_typer(group, name=name)


def main() -> None:
    """Runs the command: errors that have a next step are one line and exit code 1; 130 where it was interrupted."""
    try:
        app()
    except ApplianceError as error:
        complain(error)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
