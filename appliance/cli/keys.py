"""`appliance keys`: API keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from appliance.admin_client import route
from appliance.cli.common import Appliance, minute, moment, print_facts, print_json, print_table, revoked
from appliance.cli.files import check_file, write_file
from appliance.cli.options import CommandGroup, ForceOption, How, JsonOption, ReasonOption, YesOption
from appliance.errors import StateError

app = CommandGroup("API keys: list, add, rotate, revoke.")

KidArgument = Annotated[str, typer.Argument(help="The key's id: the 12 characters after apl_sk_.")]
NewFileOption = Annotated[Path | None, typer.Option("--out", help="Write the key to this new file, not to the screen.")]
FileOption = Annotated[
    Path | None, typer.Option("--out", help="Write the key to this file, also over the old one, not to the screen.")
]


@app.command("list")
def show(
    appliance: Appliance,
    principal: Annotated[str | None, typer.Argument(help="Only this client's.")] = None,
    json: JsonOption = False,
) -> None:
    """List API keys with their state and what each was used for; the keys themselves are stored nowhere."""
    found = appliance.ask("/keys", principal=principal)
    if json:
        print_json(found)
        return
    print_table(
        ("key id", "client", "state", "works until (UTC)", "last used (UTC)", "24 h", "successor", "label"),
        (
            (
                key["kid"],
                key["principal"],
                key["state"],
                "" if key["state"] == "revoked" else minute(key["works_until"]),
                minute(key["last_used"]) or "never",
                _used(key["last_day"]),
                key["successor"] or "",
                key["label"],
            )
            for key in found
        ),
    )


@app.command("show")
def show_one(kid: KidArgument, appliance: Appliance, json: JsonOption = False) -> None:
    """What one key may do and was used for in the last 24 hours.

    The limits are its client's, and all of the client's keys share them.
    """
    found = next((key for key in appliance.ask("/keys") if key["kid"] == kid), None)
    if found is None:
        raise StateError(f"there is no API key {kid!r}; `appliance keys list` shows them")
    if json:
        print_json(found)
        return
    limits = {name: value for name, value in found["limits"].items() if value is not None}
    print_facts({**found, "models": ", ".join(found["models"]) or "all", "limits": limits or "none"})


@app.command("add")
def add(
    principal: Annotated[str, typer.Argument(help="The client it is for.")],
    appliance: Appliance,
    how: How,
    label: Annotated[str, typer.Option(help="A note for the list.")] = "",
    life_days: Annotated[int | None, typer.Option(min=1, max=366, help="Default: api_keys.life_days.")] = None,
    out: NewFileOption = None,
) -> None:
    """Make a further key for a client; it is shown this once.

    Example: appliance keys add dify --label 'staging' --life-days 30
    """
    body = {"principal": principal, "label": label, "life_days": life_days}
    check_file(out, new=True)
    answer = appliance.act("/keys", body, how)
    _show_new(answer, out, how)


@app.command("rotate")
def rotate(
    kid: KidArgument,
    appliance: Appliance,
    how: How,
    grace_hours: Annotated[
        float | None,
        typer.Option(min=0, max=336, help="How long the old key still works; default: api_keys.grace_hours."),
    ] = None,
    force: ForceOption = False,
    out: FileOption = None,
) -> None:
    """Make a successor for a key; both work until the old one's grace is over.

    Dify stores the key with every model, so give it days: appliance keys rotate 4fTq0Zk2LmNp --grace-hours 168
    """
    body, path = {"grace_hours": grace_hours, "force": force}, route("keys", kid, "rotate")
    check_file(out)
    answer = appliance.act(path, body, how)
    _show_new(answer, out, how)
    until = moment(answer["predecessor_works_until"])
    typer.echo(f"{kid} {'would work' if how.plan else 'works'} until {until}", err=out is None and not how.plan)


@app.command("revoke")
def revoke(kid: KidArgument, appliance: Appliance, how: How, reason: ReasonOption = "", yes: YesOption = False) -> None:
    """Refuse a key from now on, and end the requests that came with it.

    Example: appliance keys revoke 4fTq0Zk2LmNp --reason 'found in a git repository'
    """
    question, path = f"Refuse API key {kid} from now on?", route("keys", kid, "revoke")
    answer = appliance.act_if_agreed(question, path, {"reason": reason}, how, yes=yes)
    typer.echo(f"{kid}: {revoked(answer, how)}")


@app.command("revoke-token")
def revoke_token(
    token: Annotated[str, typer.Argument(help="The token's id: its claim `jti`.")],
    appliance: Appliance,
    how: How,
    reason: ReasonOption = "",
    yes: YesOption = False,
) -> None:
    """Refuse one JSON Web Token from now on, and end the requests that came with it.

    A token without `jti` cannot be told from others: revoke its client, or take its issuer out of appliance.yaml.
    """
    question, path = f"Refuse the token {token} from now on?", route("tokens", token, "revoke")
    answer = appliance.act_if_agreed(question, path, {"reason": reason}, how, yes=yes)
    typer.echo(f"{token}: {revoked(answer, how)}")


def _used(day: dict[str, int] | None) -> str:
    """In a list: requests, and those that were not answered."""
    if day is None:
        return "?"
    wrong = [f"{day[name]} {name}" for name in ("refused", "failed") if day[name]]
    return f"{day['requests']} ({', '.join(wrong)})" if wrong else str(day["requests"])


def _show_new(answer: dict[str, Any], out: Path | None, how: How) -> None:
    until = moment(answer["works_until"])
    if how.plan:
        typer.echo(f"{answer['principal']}: would get a key that works until {until}")
    elif out is not None:
        try:
            write_file(out, answer["key"] + "\n", private=True)
        except StateError as error:
            lost = f"The key is lost: `appliance keys revoke {answer['kid']}`, then make another"
            raise StateError(f"{error}. {lost}") from error
        typer.echo(f"{out}: the key {answer['kid']} of {answer['principal']}; it works until {until}")
    else:
        typer.echo(answer["key"])
        typer.echo(f"the key {answer['kid']} of {answer['principal']}; it works until {until}", err=True)
