"""`appliance first-run`."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from appliance.errors import ConfigError


def first_run(
    answers: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="A file with the answers; else they are asked for.")
    ] = None,
    example: Annotated[bool, typer.Option("--example", help="Print such a file, with what is usual.")] = False,
) -> None:
    """Configure a new host: names and addresses, allowlist, certificate, operators, models, key-encryption key.

    `appliance-setup install` calls it. As root; before the service starts for the first time.
    """
    from appliance.first_run.answers import Answers, read_answers
    from appliance.first_run.carrying_out import carry_out
    from appliance.first_run.questions import Terminal, ask_all

    if example:
        typer.echo(msgspec.yaml.encode(Answers(names=(socket.gethostname(),))).decode(), nl=False)
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
    for line in _next_steps(given.client, given.certificate):
        typer.echo(line)


def _next_steps(client: str | None, certificate: str) -> list[str]:
    """What needs the service, once it runs."""
    steps = [] if client is None else [f"once it serves: appliance clients add {client} --out /root/{client}"]
    if certificate == "request":
        steps.append("once it serves: appliance certs csr --out server.csr, and certs import with the CA's answer")
    return steps
