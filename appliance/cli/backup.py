"""`appliance backup`: take one, bring one back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from appliance.cli.common import DEFAULT_CONFIG, Appliance, existing
from appliance.cli.options import CommandGroup, ConfigOption, How
from appliance.config import load_config
from appliance.errors import ConfigError

app = CommandGroup("Backups, encrypted to a recovery key that is kept off the host.")


@app.command("new-recovery-key")
def new_recovery_key() -> None:
    """Make a recovery key. Print it, keep the secret half off this host in two places; it is stored nowhere.

    Example: appliance backup new-recovery-key
    """
    from appliance.keyring.recovery import generate_recovery_key

    secret, public = generate_recovery_key()
    typer.echo(f"secret, for paper:  {secret}")
    typer.echo(f"public, for backups: {public}")


@app.command("create")
def create(
    target: Annotated[Path, typer.Argument(help="The file to write; the daemon's user must be able to.")],
    recovery_public: Annotated[str, typer.Option(help="The public half: apl-recovery-public:…")],
    appliance: Appliance,
    how: How,
) -> None:
    """Write everything but the models into one encrypted file, while the appliance goes on serving.

    Example: appliance backup create /mnt/stick/appliance.backup --recovery-public apl-recovery-public:…
    """
    body = {"target": str(target.absolute()), "recovery_public": recovery_public}
    answer = appliance.act("/backup", body, how)
    if how.plan:
        typer.echo(f"{answer['target']}: would hold {', '.join(answer['folders'])}")
    else:
        typer.echo(f"{answer['target']}: {answer['files']} files, {answer['bytes']} bytes, sha256 {answer['sha256']}")


@app.command("restore")
def restore(
    archive: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The backup.")],
    into: Annotated[Path, typer.Option(help="The new state directory; must be missing or empty.")],
    recovery_secret_file: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="Holds the secret half.")],
    config: ConfigOption = None,
) -> None:
    """Make a state directory from a backup, on this host or another; nothing is written unless all of it is whole.

    The data keys are wrapped anew under the key-encryption key that appliance.yaml names here.
    Example: appliance backup restore appliance.backup --into /var/lib/appliance --recovery-secret-file key.txt
    """
    from appliance.keyring.recovery import RecoverySecretKey
    from appliance.state_backup import restore_state

    settings = load_config(existing(config, DEFAULT_CONFIG))
    try:
        secret = RecoverySecretKey.parse(recovery_secret_file.read_text("ascii").strip())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{recovery_secret_file} cannot be read: {error}") from error
    files = restore_state(archive, secret, into, settings.key_encryption, dict(os.environ))
    typer.echo(f"{into}: {files} files; start the appliance with --state-dir {into}")
