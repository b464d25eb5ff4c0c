"""`appliance secrets`: what encrypts, hashes and signs."""

from __future__ import annotations

from typing import Annotated

import typer

from appliance.admin_client import route
from appliance.cli.common import (
    DEFAULT_STATE,
    ApprovalOption,
    ConfigOption,
    ForceOption,
    JsonOption,
    PlanOption,
    StateOption,
    YesOption,
    administer,
    confirm,
    minute,
    print_json,
    print_table,
)
from appliance.safe_text import safe_text

app = typer.Typer(no_args_is_help=True, help="Data keys, the key-encryption key, peppers, the audit log's seal key.")


@app.command("list")
def show(state_dir: StateOption = DEFAULT_STATE, config: ConfigOption = None, json: JsonOption = False) -> None:
    """List the keys by which things are encrypted, hashed and signed; none of them is shown."""
    found = administer(state_dir, config, lambda admin: admin.get("/secrets"))
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
    purpose: Annotated[str, typer.Argument(help="credentials, audit, capture or backup.")],
    state_dir: StateOption = DEFAULT_STATE,
    config: ConfigOption = None,
    plan: PlanOption = False,
    approval: ApprovalOption = None,
) -> None:
    """Make a new data key, seal again what the old one sealed, and drop the old one."""
    answer = administer(
        state_dir, config, lambda admin: admin.post(route("data-keys", purpose, "rotate"), plan=plan, approval=approval)
    )
    generations = ", ".join(str(key["generation"]) for key in answer["data_keys"])
    typer.echo(f"{purpose}: {'has' if plan else 'now'} generation {generations}")


@app.command("rekey")
def rekey(
    state_dir: StateOption = DEFAULT_STATE,
    config: ConfigOption = None,
    plan: PlanOption = False,
    yes: YesOption = False,
    approval: ApprovalOption = None,
) -> None:
    """Wrap the data keys under the key-encryption key that appliance.yaml names now (after a reload)."""
    if not plan:
        confirm("Wrap all data keys under another key-encryption key? Keep the old one until the next backup.", yes=yes)
    answer = administer(state_dir, config, lambda admin: admin.post("/kek/rekey", plan=plan, approval=approval))
    typer.echo(f"key-encryption key: {answer['source']}")


@app.command("rotate-pepper")
def rotate_pepper(
    state_dir: StateOption = DEFAULT_STATE,
    config: ConfigOption = None,
    plan: PlanOption = False,
    approval: ApprovalOption = None,
) -> None:
    """Make a new pepper; every API key moves to it when it is used next."""
    answer = administer(state_dir, config, lambda admin: admin.post("/peppers/rotate", plan=plan, approval=approval))
    typer.echo(f"peppers: {', '.join(map(str, answer['peppers']))}")


@app.command("retire-pepper")
def retire_pepper(
    pepper: Annotated[int, typer.Argument(help="Its number in `appliance secrets list`.")],
    state_dir: StateOption = DEFAULT_STATE,
    config: ConfigOption = None,
    force: ForceOption = False,
    plan: PlanOption = False,
    yes: YesOption = False,
    approval: ApprovalOption = None,
) -> None:
    """Forget an old pepper; API keys that have not moved are revoked, which needs --force."""
    if not plan:
        confirm(f"Forget pepper {pepper}?", yes=yes)
    body = {"pepper": pepper, "force": force}
    answer = administer(
        state_dir, config, lambda admin: admin.post("/peppers/retire", body, plan=plan, approval=approval)
    )
    typer.echo(f"pepper {pepper}: {'would be' if plan else 'is'} gone; {len(answer['revoked'])} API keys revoked")


@app.command("rotate-seal-key")
def rotate_seal_key(
    state_dir: StateOption = DEFAULT_STATE,
    config: ConfigOption = None,
    plan: PlanOption = False,
    approval: ApprovalOption = None,
) -> None:
    """Make a new key to sign the audit log's segments; the old one signs it with its last act."""
    answer = administer(state_dir, config, lambda admin: admin.post("/seal-key/rotate", plan=plan, approval=approval))
    typer.echo(f"seal key: {answer['seal_key'][:16]}")
