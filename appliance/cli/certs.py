"""`appliance certs`: authorities, certificates, revocation lists."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from appliance.admin_client import route
from appliance.cli.clients import renew_client
from appliance.cli.common import (
    DEFAULT_STATE,
    ApprovalOption,
    ConfigOption,
    ForceOption,
    GenerationOption,
    JsonOption,
    OutOption,
    PlanOption,
    ReasonOption,
    StateOption,
    YesOption,
    administer,
    confirm,
    ended,
    minute,
    moment,
    print_json,
    print_table,
)
from appliance.cli.files import bundle_folder, check_file, check_folder, hand_over, read_pem, write_file

app = typer.Typer(no_args_is_help=True, help="Certificates: issue, renew, revoke, and replace an authority.")

StageOption = Annotated[
    bool, typer.Option("--stage-only", help="Keep it beside the active one; `certs activate` later.")
]
FileArgument = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A PEM file.")]


@app.command("init")
def init(state_dir: StateOption = DEFAULT_STATE, config: ConfigOption = None) -> None:
    """Found a new appliance without serving: authorities, server certificate, client `demo`.

    The first `appliance serve` does the same.
    """
    found = administer(state_dir, config, lambda admin: admin.get("/certificates"), create=True)
    _print(found)


@app.command("list")
def show(state_dir: StateOption = DEFAULT_STATE, config: ConfigOption = None, json: JsonOption = False) -> None:
    """List authorities, the server certificate, issued certificates and revocation lists."""
    found = administer(state_dir, config, lambda admin: admin.get("/certificates"))
    if json:
        print_json(found)
    else:
        _print(found)


@app.command("issue")
def issue(
    name: Annotated[str, typer.Argument(help="A client's or an administrator's name: a-z, 0-9 and '-'.")],
    state_dir: StateOption = DEFAULT_STATE,
    config: ConfigOption = None,
    admin: Annotated[bool, typer.Option("--admin", help="For the remote admin port.")] = False,
    out: OutOption = None,
    csr: Annotated[Path | None, typer.Option("--csr", help="A signing request (PEM).")] = None,
    plan: PlanOption = False,
    approval: ApprovalOption = None,
) -> None:
    """Make a certificate without an API key (a client with both: `appliance clients add`).

    What an administrator may do is in admin.remote.administrators of appliance.yaml.
    Example: appliance certs issue anna --admin --out ./anna
    """
    kind = "admin" if admin else "client"
    body = {"name": name, "kind": kind, "csr": None if csr is None else read_pem(csr)}
    folder = bundle_folder(state_dir, out, f"admin-{name}" if admin else name)
    if not plan:
        check_folder(folder, new=() if out is None else (f"{kind}.crt", f"{kind}.key"))
    answer = administer(
        state_dir, config, lambda client: client.post("/certificates", body, plan=plan, approval=approval)
    )
    if plan:
        typer.echo(f"{name}: would get {'an administrator' if admin else 'a client'}'s certificate")
        return
    files = hand_over(folder, answer, lost=f"revoke that certificate of {name} (`certs list`), then make another")
    typer.echo(f"{folder}: {' '.join(files)}")


@app.command("renew")
def renew(
    what: Annotated[str, typer.Argument(help="`server`, or a client's name.")] = "server",
    state_dir: StateOption = DEFAULT_STATE,
    config: ConfigOption = None,
    out: OutOption = None,
    stage_only: StageOption = False,
    plan: PlanOption = False,
    approval: ApprovalOption = None,
    generation: GenerationOption = None,
) -> None:
    """Make a new server certificate (or a client's); it is tested first, and no connection is dropped.

    The server's is renewed by itself after two thirds of its life.
    """
    if what != "server":
        renew_client(what, state_dir, config, out, None, plan=plan, approval=approval, generation=generation)
        return
    body = {"stage_only": stage_only}
    server = administer(
        state_dir,
        config,
        lambda admin: admin.post("/server/renew", body, plan=plan, approval=approval, generation=generation),
        plan=plan,
    )
    if plan:
        typer.echo("a new server certificate would be made, tested and shown to new connections")
        return
    place = "staged" if stage_only else "active"
    typer.echo(f"server: {place}, valid until {moment(server[place]['not_after'])}")


@app.command("activate")
def activate(
    state_dir: StateOption = DEFAULT_STATE, config: ConfigOption = None, approval: ApprovalOption = None
) -> None:
    """Show the staged server certificate from now on."""
    server = administer(state_dir, config, lambda admin: admin.post("/server/activate", approval=approval))
    typer.echo(f"server: active, valid until {moment(server['active']['not_after'])}")


@app.command("rollback")
def rollback(
    state_dir: StateOption = DEFAULT_STATE, config: ConfigOption = None, approval: ApprovalOption = None
) -> None:
    """Go back to the previous server certificate."""
    server = administer(state_dir, config, lambda admin: admin.post("/server/rollback", approval=approval))
    typer.echo(f"server: active, valid until {moment(server['active']['not_after'])}")


@app.command("revoke")
def revoke(
    certificate: Annotated[str, typer.Argument(help="Serial number or fingerprint, or at least 8 digits of one.")],
    state_dir: StateOption = DEFAULT_STATE,
    config: ConfigOption = None,
    reason: ReasonOption = "",
    plan: PlanOption = False,
    yes: YesOption = False,
    approval: ApprovalOption = None,
) -> None:
    """Refuse one certificate from now on, and end its connections.

    Example: appliance certs revoke 5a3b12c9 --reason 'key copied'
    """
    if not plan:
        confirm(f"Refuse certificate {certificate} from now on?", yes=yes)
    body = {"certificate": certificate, "reason": reason}
    answer = administer(
        state_dir, config, lambda admin: admin.post("/certificates/revoke", body, plan=plan, approval=approval)
    )
    done = "would be revoked" if plan else "revoked"
    typer.echo(f"{answer['serial']} of {answer['name']}: {done}; {ended(answer)}")


@app.command("rotate-ca")
def rotate_ca(
    authority: Annotated[str, typer.Argument(help="client, server or admin.")],
    step: Annotated[str, typer.Argument(help="start, issue, finalize or rollback.")],
    state_dir: StateOption = DEFAULT_STATE,
    config: ConfigOption = None,
    force: ForceOption = False,
    plan: PlanOption = False,
    yes: YesOption = False,
    approval: ApprovalOption = None,
    generation: GenerationOption = None,
) -> None:
    """Replace an authority, step by step, without locking anybody out.

    start: both are trusted. issue: the new one signs; renew every client (`certs renew NAME`). finalize: the old one
    counts no more; refused while somebody still uses it. rollback: back to the old one, before finalize.
    """
    if step in ("finalize", "rollback") and not plan:
        confirm(f"{step} the rotation of the {authority} CA?", yes=yes)
    body, path = {"step": step, "force": force}, route("authorities", authority, "rotation")
    answer = administer(
        state_dir,
        config,
        lambda admin: admin.post(path, body, plan=plan, approval=approval, generation=generation),
        plan=plan,
    )
    if plan:
        typer.echo(f"{authority} CA: {step} would be done")
    else:
        typer.echo(f"{authority} CA: {answer['phase']}; {ended(answer)}")
    if answer["stragglers"]:
        typer.echo(f"still with a certificate of the old one: {', '.join(answer['stragglers'])}")


@app.command("csr")
def csr(
    state_dir: StateOption = DEFAULT_STATE,
    config: ConfigOption = None,
    out: Annotated[Path | None, typer.Option("--out", help="The file to write; else the screen.")] = None,
    approval: ApprovalOption = None,
) -> None:
    """Make a signing request for the server certificate, for a CA elsewhere; the private key stays here."""
    check_file(out)
    answer = administer(state_dir, config, lambda admin: admin.post("/server/request", approval=approval))
    _write(answer["csr"], out)
    typer.echo(f"for: {', '.join(answer['names'])}", err=True)


@app.command("import")
def import_chain(
    chain: FileArgument,
    state_dir: StateOption = DEFAULT_STATE,
    config: ConfigOption = None,
    stage_only: StageOption = False,
    plan: PlanOption = False,
    approval: ApprovalOption = None,
) -> None:
    """Take the server certificate that was made for the latest `certs csr`: its own first, then the intermediates."""
    body = {"chain": read_pem(chain), "stage_only": stage_only}
    server = administer(
        state_dir, config, lambda admin: admin.post("/server/import", body, plan=plan, approval=approval)
    )
    place = "staged" if stage_only else "active"
    typer.echo("it fits" if plan else f"server: {place}, valid until {moment(server[place]['not_after'])}")


@app.command("import-crl")
def take_crl(
    crl: FileArgument,
    state_dir: StateOption = DEFAULT_STATE,
    config: ConfigOption = None,
    plan: PlanOption = False,
    approval: ApprovalOption = None,
) -> None:
    """Take a revocation list (PEM) of an external CA; an older one than that in force is refused."""
    body = {"crl": read_pem(crl)}
    answer = administer(state_dir, config, lambda admin: admin.post("/crls", body, plan=plan, approval=approval))
    found = answer["crl"]
    typer.echo(
        f"list {found['number']}{' would be taken' if plan else ''}: {found['entries']} entries, "
        f"next due {moment(found['next_update'])}; {ended(answer)}"
    )
    if datetime.fromisoformat(found["next_update"]) < datetime.now(UTC):
        typer.echo("it is overdue already: get a newer one from the authority, or its clients are refused", err=True)


@app.command("crl")
def crl(
    state_dir: StateOption = DEFAULT_STATE,
    config: ConfigOption = None,
    out: Annotated[Path | None, typer.Option("--out", help="The file to write; else the screen.")] = None,
) -> None:
    """Write our own client CA's revocation list, for a proxy that checks certificates in front of the appliance."""
    check_file(out)
    _write(administer(state_dir, config, lambda admin: admin.get("/crl"))["pem"], out)


@app.command("trust")
def trust(
    authority: Annotated[str, typer.Argument(help="client, server or admin.")] = "server",
    state_dir: StateOption = DEFAULT_STATE,
    config: ConfigOption = None,
    out: Annotated[Path | None, typer.Option("--out", help="The file to write; else the screen.")] = None,
) -> None:
    """Write an authority's certificates: `server` is the ca.crt of every client, both while it is rotated."""
    check_file(out)
    _write(administer(state_dir, config, lambda admin: admin.get(route("authorities", authority)))["pem"], out)


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
        yield _row(f"{authority['name']} CA", authority["phase"], authority["current"])
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
