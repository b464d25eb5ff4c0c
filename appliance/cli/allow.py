"""`appliance allow`: which addresses may connect."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from appliance.cli import fence
from appliance.cli.common import Appliance, ended, minute, moment, print_json, print_table
from appliance.cli.options import ApprovalOption, CommandGroup, ForceOption, How, JsonOption

app = CommandGroup(
    "The allowlist: stage changes with add and remove, then apply, then confirm within two minutes.",
)

NetworkArgument = Annotated[list[str], typer.Argument(help="Addresses or networks, such as 192.0.2.0/24.")]


@app.command("list")
def show(appliance: Appliance, json: JsonOption = False) -> None:
    """List what may connect, what is staged, and what is on trial."""
    found = appliance.ask("/allowlist")
    if json:
        print_json(found)
    else:
        _print(found)


@app.command("add")
def add(
    networks: NetworkArgument,
    appliance: Appliance,
    how: How,
    listener: Annotated[str | None, typer.Option(help="Only at this listener; else at every one.")] = None,
    comment: Annotated[str, typer.Option(help="A note for the list.")] = "",
) -> None:
    """Stage networks to be let in; `appliance allow apply` makes it count.

    Example: appliance allow add 192.0.2.0/24 --comment 'Dify hosts'
    """
    entries = [{"network": network, "listener": listener, "comment": comment} for network in networks]
    _print(appliance.act("/allowlist/stage", {"add": entries}, how))
    fence.warn(appliance, networks)


@app.command("remove")
def remove(networks: NetworkArgument, appliance: Appliance, how: How) -> None:
    """Stage networks to be shut out; `appliance allow apply` makes it count."""
    _print(appliance.act("/allowlist/stage", {"remove": networks}, how))


@app.command("test")
def test(
    address: Annotated[str, typer.Argument(help="An address, as a client would come from.")], appliance: Appliance
) -> None:
    """Say whether an address may connect, now and with what is staged."""
    found = appliance.ask("/allowlist/test", address=address)
    for listener, now in found["now"].items():
        staged = found["staged"][listener]
        typer.echo(
            f"{found['address']} at {listener}: {_word(now)}" + ("" if staged == now else f"; staged: {_word(staged)}")
        )
    if any((*found["now"].values(), *found["staged"].values())):
        fence.warn(appliance, [found["address"]])


@app.command("denied")
def denied(appliance: Appliance, json: JsonOption = False) -> None:
    """List who was turned away in the last hour, most often first.

    To let one in: appliance allow add ADDRESS, then appliance allow apply
    """
    found = appliance.ask("/allowlist/denied")
    if json:
        print_json(found)
    elif found:
        print_table(
            ("address", "listener", "denied", "last (UTC)"),
            ((one["address"], one["listener"], one["denied"], minute(one["last_seen"])) for one in found),
        )
    else:
        typer.echo("none")


@app.command("apply")
def apply(
    appliance: Appliance,
    how: How,
    confirm_seconds: Annotated[
        int,
        typer.Option("--confirm", min=0, max=86400, help="Undone after so many seconds unless confirmed; 0: never."),
    ] = 120,
    force: ForceOption = False,
) -> None:
    """Make what is staged count; it is undone unless `appliance allow confirm` follows in time.

    Refused when an address that was here in the last 24 hours would be shut out, unless forced.
    """
    body = {"confirm_seconds": confirm_seconds, "force": force}
    answer = appliance.act("/allowlist/apply", body, how)
    _print(answer)
    if answer["trial"] and not how.plan:
        typer.echo(f"{ended(answer)}. Confirm with `appliance allow confirm`.")
    fence.warn(appliance, [entry["network"] for entry in answer["entries"]])


@app.command("confirm")
def confirm(appliance: Appliance, approval: ApprovalOption = None) -> None:
    """Keep the change that is on trial."""
    appliance.act("/allowlist/confirm", how=How(approval=approval))
    typer.echo("confirmed")


@app.command("revert")
def revert(appliance: Appliance, approval: ApprovalOption = None) -> None:
    """Undo the change that is on trial; it stays staged."""
    _print(appliance.act("/allowlist/revert", how=How(approval=approval)))
    fence.warn(appliance)


@app.command("discard")
def discard(appliance: Appliance, approval: ApprovalOption = None) -> None:
    """Forget what is staged."""
    _print(appliance.act("/allowlist/discard", how=How(approval=approval)))


def _print(found: dict[str, Any]) -> None:
    changes = [("+", entry) for entry in found["staged"]["add"]] + [("-", entry) for entry in found["staged"]["remove"]]
    rows = [("", entry, entry["origin"]) for entry in found["entries"]] + [
        (sign, entry, "staged") for sign, entry in changes
    ]
    if rows:
        print_table(
            ("", "network", "listener", "from", "comment"),
            (
                (sign, entry["network"], entry["listener"] or "every", origin, entry["comment"])
                for sign, entry, origin in rows
            ),
        )
    else:
        typer.echo("The list is empty: only this host may connect.")
    if found["trial"]:
        until = moment(found["trial"]["revert_at"], "seconds")
        typer.echo(f"On trial until {until}; `appliance allow confirm` keeps it.")


def _word(allowed: bool) -> str:
    return "may connect" if allowed else "is refused"
