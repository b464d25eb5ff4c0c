"""`appliance clients`: who may call, and what is handed to them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from appliance.access_config import MAIN_LISTENER
from appliance.admin_client import AdminClient, route
from appliance.cli.common import (
    DEFAULT_STATE,
    ApprovalOption,
    ConfigOption,
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
    print_json,
    print_table,
)
from appliance.cli.files import bundle_folder, check_folder, hand_over, read_pem

app = typer.Typer(no_args_is_help=True, help="Certificates and keys of those who may call.")

NameArgument = Annotated[str, typer.Argument(help="Lower-case letters, digits and hyphens: the principal's name.")]
CsrOption = Annotated[
    Path | None, typer.Option("--csr", help="A signing request (PEM), so that the private key stays where it is.")
]


@app.command("add")
def add(
    name: NameArgument,
    state_dir: StateOption = DEFAULT_STATE,
    config: ConfigOption = None,
    out: OutOption = None,
    csr: CsrOption = None,
    plan: PlanOption = False,
    approval: ApprovalOption = None,
    generation: GenerationOption = None,
) -> None:
    """Make a client: certificate, private key, CA file and API key, in a folder of its own.

    Example: appliance clients add dify --out ./dify
    """
    body = {"name": name, "csr": None if csr is None else read_pem(csr)}
    folder = bundle_folder(state_dir, out, name)
    if not plan:
        check_folder(folder, new=() if out is None else ("client.crt", "client.key", "api.key"))
    answer = administer(
        state_dir,
        config,
        lambda admin: admin.post("/clients", body, plan=plan, approval=approval, generation=generation),
        plan=plan,
    )
    if plan:
        typer.echo(f"{name}: would get a certificate and an API key")
        return
    lost = f"the client is made; `appliance clients renew {name}` and `appliance keys add {name}` give it new ones"
    files = hand_over(folder, answer, lost=lost)
    typer.echo(f"{folder}: {' '.join(files)}")
    typer.echo("Carry the folder to the client over a safe path; the key is stored here only as an HMAC.")


@app.command("renew")
def renew(
    name: NameArgument,
    state_dir: StateOption = DEFAULT_STATE,
    config: ConfigOption = None,
    out: OutOption = None,
    csr: CsrOption = None,
    plan: PlanOption = False,
    approval: ApprovalOption = None,
) -> None:
    """Make a new certificate for a client; the one it has stays valid until its end.

    Example: appliance clients renew dify --out ./dify-2027
    """
    renew_client(name, state_dir, config, out, csr, plan=plan, approval=approval)


def renew_client(
    name: str,
    state_dir: Path,
    config: Path | None,
    out: Path | None,
    csr: Path | None,
    *,
    plan: bool,
    approval: str | None,
    generation: int | None = None,
) -> None:
    """What `clients renew NAME` and `certs renew NAME` do."""
    body = {"csr": None if csr is None else read_pem(csr)}
    folder = bundle_folder(state_dir, out, name)
    if not plan:
        check_folder(folder)
    path = route("clients", name, "renew")
    answer = administer(
        state_dir,
        config,
        lambda admin: admin.post(path, body, plan=plan, approval=approval, generation=generation),
        plan=plan and generation is not None,
    )
    if plan:
        typer.echo(f"{name}: would get a new certificate")
        return
    files = hand_over(folder, answer, lost="repeat the command with a folder that can be written")
    typer.echo(f"{folder}: {' '.join(files)}")


@app.command("bundle")
def bundle(
    name: NameArgument,
    host: Annotated[str, typer.Option(help="How Dify's host reaches this one: a name or address of its certificate.")],
    dify: Annotated[bool, typer.Option("--dify", help="For Dify: the only kind there is so far.")] = True,
    state_dir: StateOption = DEFAULT_STATE,
    config: ConfigOption = None,
    out: OutOption = None,
    listener: Annotated[str, typer.Option(help="Which of the listeners.")] = MAIN_LISTENER,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Where it is not the listener's own.")] = None,
    sidecar: Annotated[
        bool, typer.Option(help="With an nginx beside Dify; without one the listener is in mode key.")
    ] = True,
    approval: ApprovalOption = None,
) -> None:
    """Write all that connects a Dify: client certificate and key, CA, API key, nginx.conf, compose file and a sheet.

    A folder that holds the client's files already keeps them; what it lacks of certificate and API key is made.
    Example: appliance clients bundle dify --dify --host llm.example.lan --out ./dify
    """
    folder = bundle_folder(state_dir, out, name)
    check_folder(folder)
    query = {"host": host, "listener": listener, "port": port, "sidecar": "true" if sidecar else "false"}

    async def work(admin: AdminClient) -> list[str]:
        for_dify = await admin.get(route("clients", name, "dify"), **query)
        made, given = [], approval
        # Each is written before the next is asked for, which may take another approval: repeating the command then
        # makes what is still missing.
        if not (folder / "client.key").exists():
            answer = await admin.post(route("clients", name, "renew"), approval=given)
            made += hand_over(folder, answer, lost="repeat the command with a folder that can be written")
            given = None
        if not (folder / "api.key").exists():
            key = await admin.post("/keys", {"principal": name, "label": "dify"}, approval=given)
            lost = f"`appliance keys revoke {key['kid']}`, then repeat the command"
            made += hand_over(folder, {"files": {"api.key": key["key"] + "\n"}}, lost=lost)
        return made + hand_over(folder, for_dify, lost="repeat the command")

    files = administer(state_dir, config, work)
    typer.echo(f"{folder}: {' '.join(sorted(files))}")
    typer.echo(f"Carry the folder to Dify's host as ./llm and read {folder / 'DIFY.md'}.")


@app.command("list")
def show(state_dir: StateOption = DEFAULT_STATE, config: ConfigOption = None, json: JsonOption = False) -> None:
    """List the clients, their API keys and until when their certificates are valid."""
    found = administer(state_dir, config, lambda admin: admin.get("/clients"))
    if json:
        print_json(found)
        return
    print_table(
        ("client", "API keys", "certificate until (UTC)", "state"),
        (
            (
                client["name"],
                ", ".join(client["keys"]) or "none",
                minute(client["certificate_until"]),
                "revoked" if client["revoked"] else "",
            )
            for client in found
        ),
    )


@app.command("revoke")
def revoke(
    name: NameArgument,
    state_dir: StateOption = DEFAULT_STATE,
    config: ConfigOption = None,
    reason: ReasonOption = "",
    plan: PlanOption = False,
    yes: YesOption = False,
    approval: ApprovalOption = None,
) -> None:
    """Refuse a client from now on, whatever it shows, and end what it is doing.

    Example: appliance clients revoke dify --reason 'laptop stolen'
    """
    if not plan:
        confirm(f"Refuse client {name} from now on, and end its running requests?", yes=yes)
    answer = administer(
        state_dir,
        config,
        lambda admin: admin.post(route("clients", name, "revoke"), {"reason": reason}, plan=plan, approval=approval),
    )
    typer.echo(f"{name}: {'would be revoked' if plan else 'revoked'}; {ended(answer)}")


@app.command("restore")
def restore(
    name: NameArgument,
    state_dir: StateOption = DEFAULT_STATE,
    config: ConfigOption = None,
    plan: PlanOption = False,
    approval: ApprovalOption = None,
) -> None:
    """Take a client's revocation back; keys and certificates that were revoked by themselves stay revoked."""
    path = route("clients", name, "restore")
    administer(state_dir, config, lambda admin: admin.post(path, plan=plan, approval=approval))
    typer.echo(f"{name}: {'would be' if plan else 'is'} let in again")
