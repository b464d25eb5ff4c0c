"""What every command shares: options, where the daemon is, how answers are printed."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import ssl
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final, TypeVar

import typer

from appliance.admin_client import AdminClient, is_served
from appliance.cli.files import bundle_folder, files_of
from appliance.cli.layout import facts, records, table
from appliance.config import load_config
from appliance.errors import ApplianceError, ConfigError
from appliance.safe_text import safe_text
from appliance.state_dir import StateDir

STATE_ENV: Final = "APPLIANCE_STATE_DIR"
DEFAULT_STATE: Final = Path("/var/lib/appliance")
DEFAULT_CONFIG: Final = Path("/etc/appliance/appliance.yaml")
DEFAULT_SOCKET: Final = Path("/run/appliance/admin.sock")

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="The appliance.yaml; else that in /etc/appliance, else the defaults.")
]
StateOption = Annotated[
    Path, typer.Option("--state-dir", envvar=STATE_ENV, help="Keys, certificates, clients, logs of this appliance.")
]
PlanOption = Annotated[bool, typer.Option("--plan", help="Say what would happen, and change nothing.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Do it although it does the harm that was named.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why, for the audit log.")]
ApprovalOption = Annotated[
    str | None, typer.Option("--approval", help="Of a second administrator, where one is asked for.")
]
GenerationOption = Annotated[
    int | None, typer.Option("--if-generation", help="Only if nothing has changed since that generation (see --plan).")
]
OutOption = Annotated[Path | None, typer.Option("--out", help="The folder to write to.")]

T = TypeVar("T")

__all__ = ["bundle_folder", "files_of"]


def state_of(path: Path) -> StateDir:
    """The state directory; the present folder is not one, it is what an unset shell variable gives."""
    if path == Path():
        raise ConfigError("--state-dir needs a folder of its own, not the present one")
    return StateDir(path)


def existing(given: Path | None, *defaults: Path) -> Path | None:
    """What was asked for, else the first default that exists. Raises ConfigError where this user may not look."""
    if given is not None:
        return given
    for path in defaults:
        try:
            if path.exists():
                return path
        except PermissionError as error:
            raise ConfigError(f"{path}: this user may not look there; ask its owner, or name another file") from error
    return None


def administer(
    state_dir: Path,
    config: Path | None,
    work: Callable[[AdminClient], Awaitable[T]],
    *,
    create: bool = False,
    plan: bool = False,
) -> T:
    """Runs `work` against the daemon of this state directory, or on the directory itself where no daemon runs.

    create: found a new appliance where there is none. plan: say which generation a plan is of. Raises ApplianceError.
    """

    async def run() -> tuple[T, int]:
        remote = os.environ.get("APPLIANCE_ADMIN_URL")
        if remote:
            async with AdminClient.remote(remote, _admin_context()) as client:
                return await work(client), client.generation
        state = state_of(state_dir)
        # Before appliance.yaml, which not every administrator may read, and which may be what is to be mended.
        usual = [DEFAULT_SOCKET] if state_dir == DEFAULT_STATE and config is None else []
        for local in (*usual, state.run / "admin.sock"):
            if _served(local):
                async with AdminClient.local(local) as client:
                    return await work(client), client.generation
        settings_path = existing(config, DEFAULT_CONFIG)
        settings = load_config(settings_path)
        if settings.admin.socket is not None and _served(Path(settings.admin.socket)):
            async with AdminClient.local(Path(settings.admin.socket)) as client:
                return await work(client), client.generation
        # Imported here: most commands talk to a daemon and should not wait for all that one is made of.
        from appliance.offline import offline_admin

        folder = Path.cwd() if settings_path is None else settings_path.resolve().parent
        async with offline_admin(state, settings, folder, dict(os.environ), create=create) as client:
            return await work(client), client.generation

    try:
        answer, generation = asyncio.run(run())
    except KeyboardInterrupt:
        typer.echo("appliance: interrupted; it may have been done all the same, so look before repeating it", err=True)
        raise typer.Exit(130) from None
    if plan:
        typer.echo(f"planned at generation {generation}: --if-generation {generation} holds it to that", err=True)
    return answer


def _served(path: Path) -> bool:
    """Whether a daemon listens on this socket. Raises ConfigError where this user may not know."""
    try:
        return is_served(path)
    except PermissionError as error:
        raise ConfigError(
            f"{path} is closed to this user; run the command as the user that the appliance runs as, or add this user "
            "to the socket's group and to one of admin.groups in appliance.yaml"
        ) from error
    except OSError:
        # No socket can have this path.
        return False


def _admin_context() -> ssl.SSLContext:
    bundle = Path(os.environ.get("APPLIANCE_ADMIN_BUNDLE", ""))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(bundle / "ca.crt")
        context.load_cert_chain(bundle / "admin.crt", bundle / "admin.key")
    except OSError as error:
        raise ConfigError(
            f"APPLIANCE_ADMIN_BUNDLE={bundle}: not a folder with ca.crt, admin.crt and admin.key: {error}"
        ) from error
    return context


def confirm(question: str, *, yes: bool) -> None:
    """Ends the command unless the operator agrees."""
    if yes:
        return
    try:
        typer.echo(f"{safe_text(question)} [y/N]: ", nl=False, err=True)
        answer = sys.stdin.readline()
    except KeyboardInterrupt:
        answer = ""
    if not answer.endswith("\n"):
        typer.echo(err=True)
    if answer.strip().lower() not in ("y", "yes"):
        raise ApplianceError("nothing was changed; answer y, or give --yes")


def print_json(answer: object) -> None:
    """An answer as it came, in ASCII."""
    typer.echo(json.dumps(answer, indent=2).replace("\x7f", "\\u007f"))


def print_table(columns: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Rows of plain values."""
    typer.echo(table(columns, rows, _width()))


def print_records(columns: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """The same, one fact per line."""
    typer.echo(records(columns, rows))


def print_facts(found: Mapping[str, object]) -> None:
    """Nested plain data."""
    typer.echo(facts(found, _width()))


def _width() -> int | None:
    """Of the terminal; None in a pipe, whose reader wants whole lines."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() or "COLUMNS" in os.environ else None


def ended(answer: Mapping[str, object]) -> str:
    """How many connections a change has ended."""
    return f"{answer['cut']} connection{'' if answer['cut'] == 1 else 's'} ended"


def minute(text: str | None) -> str:
    """A time of an answer for a column that says UTC; nothing where there is none."""
    return "" if text is None else moment(text).removesuffix(" UTC")


def point_in_time(text: str | None) -> str | None:
    """An option's point in time, or so long ago, as the admin API reads it. Raises ConfigError."""
    if text is None:
        return None
    units = {"m": "minutes", "h": "hours", "d": "days"}
    if text[:-1].isdigit() and text[-1:] in units:
        return (datetime.now(UTC) - timedelta(**{units[text[-1]]: int(text[:-1])})).isoformat()
    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{text!r} is no time; write 2026-11-25T18:00 (UTC), 24h or 7d") from None
    return (given if given.tzinfo else given.replace(tzinfo=UTC)).isoformat()


def moment(text: str | None) -> str:
    """A time of an answer, to the minute."""
    if text is None:
        return "-"
    return f"{datetime.fromisoformat(text.replace('Z', '+00:00')).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
