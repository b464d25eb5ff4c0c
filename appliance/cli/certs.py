"""`appliance certs`: authorities, certificates, revocation lists."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from appliance.admin_client import route
from appliance.cli.clients import renew_client
from appliance.cli.common import Appliance, ended, minute, moment, print_json, print_table, revoked
from appliance.cli.files import bundle_folder, check_file, check_folder, hand_over, read_pem, write_file
from appliance.cli.options import (
    ApprovalOption,
    CommandGroup,
    ForceOption,
    How,
    JsonOption,
    OutOption,
    ReasonOption,
    YesOption,
)

STEPS: Final = ("start", "issue", "finalize", "rollback")

app = CommandGroup("Certificates: issue, renew, revoke, and replace an authority.")

StageOption = Annotated[
    bool, typer.Option("--stage-only", help="Keep it beside the active one; `certs activate` later.")
]
FileOption = Annotated[Path | None, typer.Option("--out", help="The file to write; else the screen.")]
FileArgument = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A PEM file.")]


@app.command("init")
def init(appliance: Appliance) -> None:
    """Found a new appliance without serving: authorities, server certificate, client `demo`.

    The first `appliance serve` does the same.
    """
    found = appliance.found_and_ask("/certificates")
    _print(found)


@app.command("list")
def show(appliance: Appliance, json: JsonOption = False) -> None:
    """List authorities, the server certificate, issued certificates and revocation lists."""
    found = appliance.ask("/certificates")
    if json:
        print_json(found)
    else:
        _print(found)


@app.command("issue")
def issue(
    name: Annotated[str, typer.Argument(help="A client's or an administrator's name: a-z, 0-9 and '-'.")],
    appliance: Appliance,
    how: How,
    admin: Annotated[bool, typer.Option("--admin", help="For the remote admin port.")] = False,
    out: OutOption = None,
    csr: Annotated[Path | None, typer.Option("--csr", help="A signing request (PEM).")] = None,
) -> None:
    """Make a certificate without an API key (a client with both: `appliance clients add`).

    What an administrator may do is in admin.remote.administrators of appliance.yaml.
    Example: appliance certs issue anna --admin --out ./anna
    """
    kind = "admin" if admin else "client"
    body = {"name": name, "kind": kind, "csr": None if csr is None else read_pem(csr)}
    folder = bundle_folder(appliance.state_dir, out, f"admin-{name}" if admin else name)
    if not how.plan:
        check_folder(folder, new=() if out is None else (f"{kind}.crt", f"{kind}.key"))
    answer = appliance.act("/certificates", body, how)
    if how.plan:
        typer.echo(f"{name}: would get {'an administrator' if admin else 'a client'}'s certificate")
        return
    hand_over(folder, answer, lost=f"revoke that certificate of {name} (`certs list`), then make another")


@app.command("renew")
def renew(
    appliance: Appliance,
    how: How,
    what: Annotated[str, typer.Argument(help="`server`, or a client's name.")] = "server",
    out: OutOption = None,
    stage_only: StageOption = False,
) -> None:
    """Make a new server certificate (or a client's); it is tested first, and no connection is dropped.

    The server's is renewed by itself after two thirds of its life.
    """
    if what != "server":
        renew_client(what, appliance, how, out)
        return
    body = {"stage_only": stage_only}
    server = appliance.act("/server/renew", body, how)
    if how.plan:
        typer.echo("a new server certificate would be made, tested and shown to new connections")
        return
    place = "staged" if stage_only else "active"
    typer.echo(f"server: {place}, valid until {moment(server[place]['not_after'])}")


@app.command("activate")
def activate(appliance: Appliance, approval: ApprovalOption = None) -> None:
    """Show the staged server certificate from now on."""
    server = appliance.act("/server/activate", how=How(approval=approval))
    typer.echo(f"server: active, valid until {moment(server['active']['not_after'])}")


@app.command("rollback")
def rollback(appliance: Appliance, approval: ApprovalOption = None) -> None:
    """Go back to the previous server certificate."""
    server = appliance.act("/server/rollback", how=How(approval=approval))
    typer.echo(f"server: active, valid until {moment(server['active']['not_after'])}")


@app.command("revoke")
def revoke(
    certificate: Annotated[str, typer.Argument(help="Serial number or fingerprint, or at least 8 digits of one.")],
    appliance: Appliance,
    how: How,
    reason: ReasonOption = "",
    yes: YesOption = False,
) -> None:
    """Refuse one certificate from now on, and end its connections.

    Example: appliance certs revoke 5a3b12c9 --reason 'key copied'
    """
    question, body = f"Refuse certificate {certificate} from now on?", {"certificate": certificate, "reason": reason}
    answer = appliance.act_if_agreed(question, "/certificates/revoke", body, how, yes=yes)
    typer.echo(f"{answer['serial']} of {answer['name']}: {revoked(answer, how)}")


@app.command("rotate-ca")
def rotate_ca(
    authority: Annotated[str, typer.Argument(help="client, server or admin.")],
    step: Annotated[str, typer.Argument(help=f"{', '.join(STEPS[:-1])} or {STEPS[-1]}.")],
    appliance: Appliance,
    how: How,
    force: ForceOption = False,
    yes: YesOption = False,
) -> None:
    """Replace an authority, step by step, without locking anybody out.

    start: both are trusted. issue: the new one signs; renew every client (`certs renew NAME`). finalize: the old one
    counts no more; refused while somebody still uses it. rollback: back to the old one, before finalize.
    """
    if step not in STEPS:
        raise typer.BadParameter(f"{step!r} is no step; known: {', '.join(STEPS)}", param_hint="step")
    body, path = {"step": step, "force": force}, route("authorities", authority, "rotation")
    question, harmless = f"{step} the rotation of the {authority} CA?", step in ("start", "issue")
    answer = appliance.act_if_agreed(question, path, body, how, yes=yes or harmless)
    if how.plan:
        typer.echo(f"{authority} CA: {step} would be done")
    else:
        typer.echo(f"{authority} CA: {answer['phase']}; {ended(answer)}")
    if answer["stragglers"]:
        typer.echo(f"still with a certificate of the old one: {', '.join(answer['stragglers'])}")


@app.command("csr")
def csr(appliance: Appliance, out: FileOption = None, approval: ApprovalOption = None) -> None:
    """Make a signing request for the server certificate, for a CA elsewhere; the private key stays here."""
    check_file(out)
    answer = appliance.act("/server/request", how=How(approval=approval))
    _write(answer["csr"], out)
    typer.echo(f"for: {', '.join(answer['names'])}", err=True)


@app.command("import")
def import_chain(chain: FileArgument, appliance: Appliance, how: How, stage_only: StageOption = False) -> None:
    """Take the server certificate that was made for the latest `certs csr`: its own first, then the intermediates.

    Where certificates.trust in appliance.yaml is empty, the root must follow as the last.
    """
    body = {"chain": read_pem(chain), "stage_only": stage_only}
    server = appliance.act("/server/import", body, how)
    place = "staged" if stage_only else "active"
    typer.echo("it fits" if how.plan else f"server: {place}, valid until {moment(server[place]['not_after'])}")


@app.command("import-crl")
def take_crl(crl: FileArgument, appliance: Appliance, how: How) -> None:
    """Take a revocation list (PEM) of an external CA; an older one than that in force is refused."""
    body = {"crl": read_pem(crl)}
    answer = appliance.act("/crls", body, how)
    found = answer["crl"]
    typer.echo(
        f"list {found['number']}{' would be taken' if how.plan else ''}: {found['entries']} entries, "
        f"next due {moment(found['next_update'])}; {ended(answer)}"
    )
    if datetime.fromisoformat(found["next_update"]) < datetime.now(UTC):
        typer.echo("it is overdue already: get a newer one from the authority, or its clients are refused", err=True)


@app.command("crl")
def crl(appliance: Appliance, out: FileOption = None) -> None:
    """Write our own client CA's revocation list, for a proxy that checks certificates in front of the appliance."""
    check_file(out)
    _write(appliance.ask("/crl")["pem"], out)


@app.command("trust")
def trust(
    appliance: Appliance,
    authority: Annotated[str, typer.Argument(help="client, server or admin.")] = "server",
    out: FileOption = None,
) -> None:
    """Write an authority's certificates: `server` is the ca.crt of every client, both while it is rotated."""
    check_file(out)
    _write(appliance.ask(route("authorities", authority))["pem"], out)


def _write(text: str, out: Path | None) -> None:
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_file(out, text, private=False)
        typer.echo(f"{out}: written")


def _print(found: dict[str, Any]) -> None:
    print_table(("certificate", "state", "until (UTC)", "serial", "fingerprint"), _rows(found))
    for crl in found["crls"]:
        typer.echo(
            f"revocation list {crl['number']} of {crl['issuer_key_id'][:16]}: {crl['entries']} entries, "
            f"next due {moment(crl['next_update'])}"
        )


def _rows(found: dict[str, Any]) -> Iterator[tuple[str, str, str, str, str]]:
    for authority in found["authorities"]:
        phase = authority["phase"]
        # Of a rotation: none is under way, and the authority works.
        yield _row(f"{authority['name']} CA", "active" if phase == "standby" else phase, authority["current"])
        if authority["successor"]:
            yield _row(f"{authority['name']} CA", "successor", authority["successor"])
    for trusted in found["trusted"]:
        yield _row(trusted["subject"], "trusted", trusted)
    for place in ("active", "staged", "previous"):
        if found["server"][place]:
            yield _row("server", place, found["server"][place])
    for issued in found["issued"]:
        yield _row(f"{issued['kind']} {issued['name']}", issued["state"], issued)


def _row(name: str, state: str, facts: dict[str, Any]) -> tuple[str, str, str, str, str]:
    return name, state, minute(facts["not_after"]), facts["serial"][:16], facts["fingerprint"][:16]
