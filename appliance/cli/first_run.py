"""`appliance first-run`."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from appliance.cli.clients import add, bundle
from appliance.cli.common import Appliance
from appliance.cli.files import check_file, check_folder, write_file
from appliance.cli.options import How
from appliance.errors import ConfigError, StateError
from appliance.first_run.handover import HANDOVER, handover_of, read_handover

_HOME: Final = Path("/root")
_REQUEST: Final = "server.csr"


def first_run(
    appliance: Appliance,
    answers: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="A file with the answers; else they are asked for.")
    ] = None,
    example: Annotated[bool, typer.Option("--example", help="Print such a file, with what is usual.")] = False,
    finish: Annotated[
        bool, typer.Option("--finish", help="Make the first client and the signing request, now that it serves.")
    ] = False,
    out: Annotated[Path, typer.Option("--out", help="With --finish: the folder to write them to.")] = _HOME,
    waiting: Annotated[Path, typer.Option(hidden=True, help="The note of what waits.")] = Path("/") / HANDOVER,
) -> None:
    """Configure a new host: names and addresses, allowlist, certificate, operators, models, key-encryption key.

    `appliance-setup install` calls it, and once the service is ready again with --finish. As root.
    """
    from appliance.first_run.answers import Answers, read_answers
    from appliance.first_run.carrying_out import carry_out
    from appliance.first_run.questions import Terminal, ask_all

    if example:
        typer.echo(msgspec.yaml.encode(Answers(names=(socket.gethostname(),))).decode(), nl=False)
        return
    if finish:
        _finish(appliance, waiting, out)
        return
    if answers is not None:
        given = read_answers(answers)
    else:
        terminal = Terminal(lambda question, usual: str(typer.prompt(question, default=usual)), typer.echo)
        try:
            given = ask_all(terminal, socket.gethostname())
        except (EOFError, typer.Abort):
            raise ConfigError("nobody answers; name a file with --answers (`--example` prints one)") from None
    carry_out(given)
    typer.echo("configured: /etc/appliance/appliance.yaml and models.yaml")
    if handover_of(given) is not None:
        typer.echo("once it serves: appliance first-run --finish, which `appliance-setup install` does by itself")


def _finish(appliance: Appliance, waiting: Path, out: Path) -> None:
    """Done again after an interruption, it makes what is missing. Raises ApplianceError; then the rest still waits."""
    handover = read_handover(waiting)
    if handover is None:
        typer.echo("nothing waits to be made")
        return
    if handover.client is not None:
        _make_client(appliance, handover.client, out / handover.client)
    if handover.request:
        _request_certificate(appliance, out / _REQUEST)
    try:
        waiting.unlink(missing_ok=True)
    except OSError as error:
        raise StateError(f"{waiting}: cannot be removed: {error.strerror}; it is done, remove it by hand") from error


def _make_client(appliance: Appliance, name: str, folder: Path) -> None:
    known = name in {client["name"] for client in appliance.ask("/clients")}
    if known and not folder.exists():
        # Of a backup that was restored, or it was cut short: who has the keys is not known here.
        typer.echo(f"{name}: is known already; appliance clients bundle {name} --out {folder} gives it more keys")
    elif known:
        bundle(name, appliance, out=folder)
    else:
        check_folder(folder)
        add(name, appliance, How(), out=folder)


def _request_certificate(appliance: Appliance, path: Path) -> None:
    if path.exists() and appliance.ask("/certificates")["server"]["requested"]:
        # Another one would take the place of its private key, and it may be with the CA already.
        typer.echo(f"{path}: keeps the signing request")
    else:
        # One that is there is of an appliance that is gone, and so is its private key.
        check_file(path)
        answer = appliance.act("/server/request")
        write_file(path, answer["csr"], private=False)
        typer.echo(f"{path}: signing request for {', '.join(answer['names'])}")
    typer.echo("Take it to your CA; our own CA's certificate is shown meanwhile. What comes back goes into one PEM")
    typer.echo("file, the server's certificate first, then the intermediates, and the root as the last:")
    typer.echo(f"    appliance certs import {path.with_name('server-chain.pem')}")
