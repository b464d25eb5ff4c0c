"""`appliance allow`: which addresses may connect."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Final

import typer

from appliance.admin_client import end_of
from appliance.cli.common import Appliance, ended, minute, moment, point_in_time, print_json, print_table
from appliance.cli.options import ApprovalOption, CommandGroup, ForceOption, How, JsonOption
from appliance.errors import ConfigError

app = CommandGroup(
    "The allowlist: stage changes with add and remove, then apply, then confirm within two minutes.",
)

NetworkArgument = Annotated[list[str], typer.Argument(help="Addresses or networks, such as 192.0.2.0/24.")]
_SHOWN_MAX: Final = 5


@dataclasses.dataclass(frozen=True, slots=True)
class Ends:
    """When an entry stops to let anybody in: the options of every command that says so."""

    life: Annotated[str | None, typer.Option("--for", help="It ends after so long: 30m, 12h, 7d, 2w.")] = None
    until: Annotated[str | None, typer.Option("--until", help="It ends then: 2026-11-25T18:00 (UTC).")] = None

    def body(self) -> dict[str, object]:
        """As the admin API takes it. Raises ConfigError."""
        if self.life is not None and self.until is not None:
            raise ConfigError("give --for or --until, not both")
        try:
            return end_of(self.life or self.until or "")
        except ValueError as error:
            raise ConfigError(str(error)) from None


@app.command("list")
def show(
    appliance: Appliance,
    unused: Annotated[
        str | None, typer.Option("--unused", help="Only entries that let no request in for so long: 24h, 30d.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """List what may connect, how much each entry was needed, what is staged, and what is on trial.

    Example: appliance allow list --unused 30d
    """
    since = point_in_time(unused)
    found = appliance.ask("/allowlist")
    if since is not None:
        _print_unused(found["entries"], datetime.fromisoformat(since), json=json)
    elif json:
        print_json(found)
    else:
        _print(found)


@app.command("add")
def add(
    networks: NetworkArgument,
    appliance: Appliance,
    how: How,
    ends: Ends,
    listener: Annotated[str | None, typer.Option(help="Only at this listener; else at every one.")] = None,
    comment: Annotated[str, typer.Option(help="A note for the list.")] = "",
) -> None:
    """Stage networks to be let in, for ever or for some time; `appliance allow apply` makes it count.

    Example: appliance allow add 192.0.2.0/24 --comment 'Dify hosts'

    Example: appliance allow add 198.51.100.7 --for 7d --comment 'the auditors'
    """
    end = ends.body()
    entries = [{"network": network, "listener": listener, "comment": comment, **end} for network in networks]
    answer = appliance.act("/allowlist/stage", {"add": entries}, how)
    _print(answer)
    warn_of_fences(answer, networks)


@app.command("extend")
def extend(
    networks: NetworkArgument,
    appliance: Appliance,
    how: How,
    ends: Ends,
    no_end: Annotated[bool, typer.Option("--no-end", help="It does not end any more.")] = False,
) -> None:
    """Stage another end for entries of the list, sooner or later; `appliance allow apply` makes it count.

    Example: appliance allow extend 198.51.100.7 --for 7d
    """
    end = ends.body()
    if bool(end) == no_end:
        raise ConfigError("say when it ends: --for, --until or --no-end")
    answer = appliance.act("/allowlist/stage", {"extend": [{"network": network, **end} for network in networks]}, how)
    _print(answer)
    warn_of_fences(answer, networks)


@app.command("diff")
def diff(appliance: Appliance, json: JsonOption = False) -> None:
    """Show what is staged: what would come, go and change."""
    staged = appliance.ask("/allowlist")["staged"]
    if json:
        print_json(staged)
    elif rows := _staged(staged):
        _print_entries(rows)
    else:
        typer.echo("nothing is staged")


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
        end = found["until"][listener]
        typer.echo(
            f"{found['address']} at {listener}: {_word(now)}"
            + (f" until {moment(end, 'seconds')}" if end else "")
            + ("" if staged == now else f"; staged: {_word(staged)}")
        )
    warn_of_fences(found)


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
    _warn_of_ends(answer["ending_sooner"])
    if answer["trial"] and not how.plan:
        typer.echo(f"{ended(answer)}. Confirm with `appliance allow confirm`.")
    warn_of_fences(answer)


@app.command("confirm")
def confirm(appliance: Appliance, approval: ApprovalOption = None) -> None:
    """Keep the change that is on trial."""
    appliance.act("/allowlist/confirm", how=How(approval=approval))
    typer.echo("confirmed")


@app.command("revert")
def revert(appliance: Appliance, approval: ApprovalOption = None) -> None:
    """Undo the change that is on trial; it stays staged."""
    answer = appliance.act("/allowlist/revert", how=How(approval=approval))
    _print(answer)
    warn_of_fences(answer, [entry["network"] for entry in answer["entries"]])


@app.command("discard")
def discard(appliance: Appliance, approval: ApprovalOption = None) -> None:
    """Forget what is staged."""
    _print(appliance.act("/allowlist/discard", how=How(approval=approval)))


def warn_of_fences(answer: Mapping[str, Any], networks: Sequence[str] | None = None) -> None:
    """Says on standard error which of these networks the allowlist lets in and systemd's units keep out.

    answer: of the admin API, about the allowlist. networks: None stands for all that it names.
    """
    # Imported here: most commands have no use for it.
    from ipaddress import ip_network

    from appliance.security.fence import NEXT, Stopped

    asked = None if networks is None else {ip_network(network) for network in networks}
    stopped = []
    for one in answer["fenced"]:
        named = tuple(name for name in one["networks"] if asked is None or ip_network(name) in asked)
        if named:
            stopped.append(Stopped(unit=one["unit"], networks=named))
    if stopped:
        typer.echo(f"warning: {'; '.join(one.sentence for one in stopped)}: {NEXT}", err=True)


def _print(found: dict[str, Any]) -> None:
    rows = [("", entry) for entry in found["entries"]] + _staged(found["staged"])
    if rows:
        _print_entries(rows)
    else:
        typer.echo("The list is empty: only this host may connect.")
    if found["trial"]:
        until = moment(found["trial"]["revert_at"], "seconds")
        typer.echo(f"On trial until {until}; `appliance allow confirm` keeps it.")


# Its sign where it is staged, and the entry.
_Row = tuple[str, dict[str, Any]]


def _staged(staged: dict[str, Any]) -> list[_Row]:
    """What goes first: of an entry that changes, both."""
    return [("-", entry) for entry in staged["remove"]] + [("+", entry) for entry in staged["add"]]


def _print_entries(rows: list[_Row]) -> None:
    print_table(
        (
            "staged",
            "network",
            "listener",
            "added by",
            "added (UTC)",
            "ends (UTC)",
            "hits 24h",
            "last hit (UTC)",
            "comment",
        ),
        (
            (
                sign,
                entry["network"],
                entry["listener"] or "every",
                entry["added_by"] or entry["origin"],
                minute(entry["added_at"]),
                _end(entry),
                entry["hits"],
                _last(entry),
                entry["comment"],
            )
            for sign, entry in rows
        ),
    )


def _print_unused(entries: list[dict[str, Any]], since: datetime, *, json: bool) -> None:
    """Those of which it is known: counting began before `since`."""
    counted = [one for one in entries if one["counted_since"] and datetime.fromisoformat(one["counted_since"]) <= since]
    found = [one for one in counted if one["last_seen"] is None or datetime.fromisoformat(one["last_seen"]) < since]
    if json:
        print_json(found)
    elif found:
        _print_entries([("", one) for one in found])
    else:
        typer.echo("none")
    if unknown := len(entries) - len(counted):
        are = "entry is" if unknown == 1 else "entries are"
        typer.echo(f"{unknown} {are} counted for less long than that, and not looked at", err=True)


def _last(entry: dict[str, Any]) -> str:
    if entry["counted_since"] is None:
        return ""
    return minute(entry["last_seen"]) or f"never since {minute(entry['counted_since'])}"


def _end(entry: dict[str, Any]) -> str:
    return f"expired {minute(entry['until'])}" if entry["ended"] else minute(entry["until"])


def _warn_of_ends(sooner: list[dict[str, str]]) -> None:
    """Who was here in the last 24 hours and will be shut out by an end that the change brings."""
    if not sooner:
        return
    shown = ", ".join(f"{one['address']} at {moment(one['until'])}" for one in sooner[:_SHOWN_MAX])
    more = f" and {len(sooner) - _SHOWN_MAX} more" if len(sooner) > _SHOWN_MAX else ""
    typer.echo(
        f"warning: who was here in the last 24 hours will be shut out: {shown}{more}; "
        "`appliance allow extend` gives a later end",
        err=True,
    )


def _word(allowed: bool) -> str:
    return "may connect" if allowed else "is refused"
