"""`appliance approvals`: the second person's part."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from appliance.admin_client import route
from appliance.cli.common import Appliance, moment, print_json, print_records
from appliance.cli.options import CommandGroup, JsonOption
from appliance.safe_text import safe_text

LINE_CHARS_MAX: Final = 4096

app = CommandGroup("Agree to what another administrator asked for.")

IdArgument = Annotated[str, typer.Argument(help="The approval's id.")]


@app.command("list")
def show(appliance: Appliance, json: JsonOption = False) -> None:
    """List what waits for a second administrator."""
    found = appliance.ask("/approvals")
    if json:
        print_json(found)
        return
    print_records(
        ("id", "action", "of", "says", "asked by", "approved by", "until"),
        (
            (
                one["id"],
                one["action"],
                one["resource"],
                one["what"],
                one["asked_by"],
                one["approved_by"] or "nobody yet",
                moment(one["until"]),
            )
            for one in found
        ),
    )


@app.command("approve")
def approve(approval: IdArgument, appliance: Appliance) -> None:
    """Agree; the one who asked then repeats the command with --approval."""
    found = appliance.act(route("approvals", approval, "approve"))
    typer.echo(_line("approved", found))


@app.command("reject")
def reject(approval: IdArgument, appliance: Appliance) -> None:
    """Drop it."""
    found = appliance.act(route("approvals", approval, "reject"))
    typer.echo(_line("rejected", found))


def _line(word: str, found: dict[str, Any]) -> str:
    what = f" ({found['what']})" if found["what"] else ""
    return safe_text(f"{word}: {found['action']} {found['resource']}{what} for {found['asked_by']}", LINE_CHARS_MAX)
