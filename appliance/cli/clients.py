"""`appliance clients`: who may call, and what is handed to them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from appliance.access_config import MAIN_LISTENER
from appliance.admin_client import route
from appliance.cli.common import Appliance, minute, print_json, print_table, revoked
from appliance.cli.files import bundle_folder, check_folder, hand_over, read_pem
from appliance.cli.options import ApprovalOption, CommandGroup, How, JsonOption, OutOption, ReasonOption, YesOption
from appliance.errors import ConfigError
from appliance.security.api_keys import ApiKey

CERTIFICATE_FILES: Final = ("client.crt", "client.key", "ca.crt")
KEY_FILE: Final = "api.key"

app = CommandGroup("Certificates and keys of those who may call.")

NameArgument = Annotated[str, typer.Argument(help="Lower-case letters, digits and hyphens: the principal's name.")]
CsrOption = Annotated[
    Path | None, typer.Option("--csr", help="A signing request (PEM), so that the private key stays where it is.")
]


@app.command("add")
def add(name: NameArgument, appliance: Appliance, how: How, out: OutOption = None, csr: CsrOption = None) -> None:
    """Make a client: certificate, private key, CA file and API key, in a folder of its own.

    Example: appliance clients add dify --out ./dify
    """
    body = {"name": name, "csr": None if csr is None else read_pem(csr)}
    folder = bundle_folder(appliance.state_dir, out, name)
    if not how.plan:
        check_folder(folder, new=() if out is None else ("client.crt", "client.key", KEY_FILE))
    answer = appliance.act("/clients", body, how)
    if how.plan:
        typer.echo(f"{name}: would get a certificate and an API key")
        return
    lost = f"the client is made; `appliance clients renew {name}` and `appliance keys add {name}` give it new ones"
    hand_over(folder, answer, lost=lost)
    typer.echo("Carry the folder to the client over a safe path; the key is stored here only as an HMAC.")


@app.command("renew")
def renew(name: NameArgument, appliance: Appliance, how: How, out: OutOption = None, csr: CsrOption = None) -> None:
    """Make a new certificate for a client; the one it has stays valid until its end.

    Example: appliance clients renew dify --out ./dify-2027
    """
    renew_client(name, appliance, how, out, csr)


def renew_client(name: str, appliance: Appliance, how: How, out: Path | None, csr: Path | None = None) -> None:
    """What `clients renew NAME` and `certs renew NAME` do."""
    body = {"csr": None if csr is None else read_pem(csr)}
    folder = bundle_folder(appliance.state_dir, out, name)
    if not how.plan:
        check_folder(folder)
    answer = appliance.act(route("clients", name, "renew"), body, how)
    if how.plan:
        typer.echo(f"{name}: would get a new certificate")
    else:
        hand_over(folder, answer, lost="repeat the command with a folder that can be written")


@app.command("bundle")
def bundle(
    name: NameArgument,
    appliance: Appliance,
    dify: Annotated[bool, typer.Option("--dify", help="With nginx.conf, compose file and sheet for Dify.")] = False,
    host: Annotated[
        str | None, typer.Option(help="How Dify's host reaches this one: a name or address of its certificate.")
    ] = None,
    listener: Annotated[str, typer.Option(help="Which of the listeners.")] = MAIN_LISTENER,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Where it is not the listener's own.")] = None,
    sidecar: Annotated[
        bool, typer.Option(help="With an nginx beside Dify; without one the listener is in mode key.")
    ] = True,
    out: OutOption = None,
    approval: ApprovalOption = None,
) -> None:
    """Make a client's folder whole: certificate, private key, CA file and API key, and with --dify all that Dify needs.

    What the folder holds of certificate and API key is kept, what it lacks is made; what the client has elsewhere
    stays valid. Where both take a second person, it is one approval after the other: repeat the command.
    Example: appliance clients bundle dify --dify --host llm.example.lan --out ./dify
    """
    if dify and host is None:
        raise typer.BadParameter("--dify needs it: how Dify's host reaches this one", param_hint="--host")
    if not dify and (host, listener, port, sidecar) != (None, MAIN_LISTENER, None, True):
        raise typer.BadParameter("--host, --listener, --port and --no-sidecar go with --dify")
    folder = bundle_folder(appliance.state_dir, out, name)
    kept = [file for file in (*CERTIFICATE_FILES, KEY_FILE) if (folder / file).exists()]
    lacks_certificate = not set(CERTIFICATE_FILES) <= set(kept)
    check_folder(folder, new=("client.crt", "client.key") if lacks_certificate else ())
    for_dify = None
    if dify:
        # First, because it changes nothing and is what may be refused.
        query = {"host": host, "listener": listener, "port": port, "sidecar": "true" if sidecar else "false"}
        for_dify = appliance.ask(route("clients", name, "dify"), **query)
    if KEY_FILE in kept:
        _check_whose(folder / KEY_FILE, name, appliance)
    if kept:
        typer.echo(f"{folder}: keeps {' '.join(kept)}")
    # Each part is in the folder before the next is asked for: a repetition makes what is still missing.
    if lacks_certificate:
        renew_client(name, appliance, How(approval=approval), folder)
        # An approval is for one act.
        approval = None
    if KEY_FILE not in kept:
        key = appliance.act("/keys", {"principal": name, "label": "dify" if dify else ""}, How(approval=approval))
        lost = f"`appliance keys revoke {key['kid']}`, then repeat the command"
        hand_over(folder, {"files": {KEY_FILE: key["key"] + "\n"}}, lost=lost)
    if for_dify is not None:
        hand_over(folder, for_dify, lost="repeat the command")
        typer.echo(f"Carry the folder to Dify's host as ./llm and read {folder / 'DIFY.md'}.")


def _check_whose(file: Path, name: str, appliance: Appliance) -> None:
    """Raises ConfigError unless the file has an API key of this client: the folder would be of two."""
    key = ApiKey.parse(read_pem(file).strip())
    if key is None or key.kid not in {known["kid"] for known in appliance.ask("/keys", principal=name)}:
        raise ConfigError(f"{file} has no API key of {name}; name another folder with --out")


@app.command("list")
def show(appliance: Appliance, json: JsonOption = False) -> None:
    """List the clients, their API keys and until when their certificates are valid."""
    found = appliance.ask("/clients")
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
    name: NameArgument, appliance: Appliance, how: How, reason: ReasonOption = "", yes: YesOption = False
) -> None:
    """Refuse a client from now on, whatever it shows, and end what it is doing.

    Example: appliance clients revoke dify --reason 'laptop stolen'
    """
    question = f"Refuse client {name} from now on, and end its running requests?"
    answer = appliance.act_if_agreed(question, route("clients", name, "revoke"), {"reason": reason}, how, yes=yes)
    typer.echo(f"{name}: {revoked(answer, how)}")


@app.command("restore")
def restore(name: NameArgument, appliance: Appliance, how: How) -> None:
    """Take a client's revocation back; keys and certificates that were revoked by themselves stay revoked."""
    appliance.act(route("clients", name, "restore"), how=how)
    typer.echo(f"{name}: {'would be' if how.plan else 'is'} let in again")
