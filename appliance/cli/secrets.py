"""`appliance secrets`: what encrypts, hashes and signs."""

from __future__ import annotations

from typing import Annotated

import typer

from appliance.admin_client import route
from appliance.cli.common import Appliance, minute, print_json, print_table
from appliance.cli.options import CommandGroup, ForceOption, How, JsonOption, YesOption
from appliance.safe_text import safe_text

app = CommandGroup("Data keys, the key-encryption key, peppers, the audit log's seal key.")


@app.command("list")
def show(appliance: Appliance, json: JsonOption = False) -> None:
    """List the keys by which things are encrypted, hashed and signed; none of them is shown."""
    found = appliance.ask("/secrets")
    if json:
        print_json(found)
        return
    rows = [
        (
            f"data key {key['purpose']}",
            key["generation"],
            minute(key["created"]),
            f"{key['messages']} messages",
        )
        for key in found["data_keys"]
    ]
    rows += [("pepper", one["id"], minute(one["created"]), f"{one['keys']} API keys") for one in found["peppers"]]
    rows.append(("audit seal key", found["seal_key"][:16], "", ""))
    print_table(("what", "generation", "made (UTC)", "used by"), rows)
    for kek in sorted({key["kek"] for key in found["data_keys"]}):
        typer.echo(f"key-encryption key of the data keys: {safe_text(kek)}")


@app.command("rotate-data-key")
def rotate_data_key(
    purpose: Annotated[str, typer.Argument(help="credentials, audit, capture or responses.")],
    appliance: Appliance,
    how: How,
) -> None:
    """Make a new data key, seal again what the old one sealed, and drop the old one."""
    answer = appliance.act(route("data-keys", purpose, "rotate"), how=how)
    generations = ", ".join(str(key["generation"]) for key in answer["data_keys"])
    typer.echo(f"{purpose}: {'a new one would follow' if how.plan else 'now'} generation {generations}")


@app.command("rekey")
def rekey(appliance: Appliance, how: How, yes: YesOption = False) -> None:
    """Wrap the data keys under the key-encryption key that appliance.yaml names now (after a reload)."""
    question = "Wrap all data keys under another key-encryption key? Keep the old one until the next backup."
    answer = appliance.act_if_agreed(question, "/kek/rekey", None, how, yes=yes)
    typer.echo(f"key-encryption key: {'would be ' if how.plan else ''}{answer['source']}")


@app.command("rotate-pepper")
def rotate_pepper(appliance: Appliance, how: How) -> None:
    """Make a new pepper; every API key moves to it when it is used next."""
    answer = appliance.act("/peppers/rotate", how=how)
    peppers = ", ".join(map(str, answer["peppers"]))
    typer.echo(f"peppers: a new one would join {peppers}" if how.plan else f"peppers: {peppers}")


@app.command("retire-pepper")
def retire_pepper(
    pepper: Annotated[int, typer.Argument(help="Its number in `appliance secrets list`.")],
    appliance: Appliance,
    how: How,
    force: ForceOption = False,
    yes: YesOption = False,
) -> None:
    """Forget an old pepper; API keys that have not moved are revoked, which needs --force."""
    body = {"pepper": pepper, "force": force}
    answer = appliance.act_if_agreed(f"Forget pepper {pepper}?", "/peppers/retire", body, how, yes=yes)
    typer.echo(f"pepper {pepper}: {'would be' if how.plan else 'is'} gone; {len(answer['revoked'])} API keys revoked")


@app.command("rotate-seal-key")
def rotate_seal_key(appliance: Appliance, how: How) -> None:
    """Make a new key to sign the audit log's segments; the old one signs it with its last act."""
    answer = appliance.act("/seal-key/rotate", how=how)
    typer.echo("seal key: a new one would be made" if how.plan else f"seal key: {answer['seal_key'][:16]}")
