"""`appliance models ps|load|unload|pin|unpin|plan|apply`, `drain` and `resume`: the models that are served."""

from __future__ import annotations

import sys
import time
from typing import Annotated, Any, Final

import typer

from appliance.admin_client import route
from appliance.cli.common import Appliance, print_json, print_table
from appliance.cli.options import CommandGroup, How, JsonOption, ReasonOption

_POLL_SECONDS: Final = 0.25

ModelArgument = Annotated[str, typer.Argument(help="A model's id or alias in models.yaml.")]
DrainOption = Annotated[
    float, typer.Option("--drain-seconds", min=0, max=240, help="How long running requests may take to end.")
]


def add_to(models: CommandGroup) -> None:
    """The commands that are about models, as part of `appliance models`."""
    for command in (ps, load, unload, pin, unpin, plan, apply):
        models.command()(command)


def ps(appliance: Appliance, json: JsonOption = False) -> None:
    """Say what every model is doing. Looking at one does not keep it loaded."""
    found = appliance.ask("/instances")
    if json:
        print_json(found)
        return
    if found["draining"]:
        typer.echo("new requests are refused; `appliance resume` takes them again", err=True)
    print_table(
        ("model", "state", "running", "waiting", "idle", "unloads", "group", "pid", "restarts", "reason"),
        (
            (
                one["id"] if one["generation"] == 1 else f"{one['id']}#{one['generation']}",
                _state(one),
                one["running"] or "",
                one["waiting"] or "",
                _span(one["idle_seconds"]),
                "never (pinned)" if one["pinned"] else _span(one["expires_seconds"], "in "),
                one["group"] or "",
                one["pid"] or "",
                one["restarts"] or "",
                one["reason"] or "",
            )
            for one in found["instances"]
        ),
    )


def load(
    model: ModelArgument,
    appliance: Appliance,
    how: How,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is ready.")] = True,
) -> None:
    """Load a model now instead of with its first request; exit code 1 when it cannot be.

    Example: appliance models load qwen3
    """
    found = appliance.act(route("instances", model, "load"), how=how)
    if how.plan:
        typer.echo(f"{found['id']} is {found['state']}; it would be loaded")
        return
    while wait and found["state"] in ("stopped", "starting", "draining"):
        if sys.stderr.isatty():
            typer.echo(f"\r{found['id']}: {_state(found)}   ", nl=False, err=True)
        time.sleep(_POLL_SECONDS)
        found = next(one for one in appliance.ask("/instances")["instances"] if one["id"] == found["id"])
    if wait and sys.stderr.isatty():
        typer.echo("\r", nl=False, err=True)
    typer.echo(f"{found['id']} is {_state(found)}")
    if found["state"] == "failed":
        typer.echo(found["reason"], err=True)
        raise typer.Exit(1)


def unload(
    model: ModelArgument,
    appliance: Appliance,
    how: How,
    drain_seconds: DrainOption = 30.0,
    reason: ReasonOption = "",
) -> None:
    """Unload a model once its running requests have ended; the next request loads it again.

    Example: appliance models unload qwen3 --drain-seconds 60
    """
    body = {"drain_seconds": drain_seconds, "reason": reason}
    found = appliance.act(route("instances", model, "unload"), body, how)
    planned = f"; {found['running']} running requests would be waited for" if how.plan else ""
    typer.echo(f"{found['id']} is {found['state']}{planned}")


def plan(appliance: Appliance) -> None:
    """Say what `appliance models apply` would do, and do nothing."""
    _print_changes(appliance.act("/models/apply", how=How(plan=True))["changes"])


def apply(appliance: Appliance, how: How) -> None:
    """Read models.yaml again and serve what it says; models that it does not change are not touched.

    A model whose file or settings have changed is replaced without a failed request; `appliance models ps` shows how
    far it is. One that cannot be loaded leaves the old one serving.
    """
    _print_changes(appliance.act("/models/apply", how=how)["changes"])


def _print_changes(changes: list[dict[str, Any]]) -> None:
    if not changes:
        typer.echo("nothing has changed")
        return
    print_table(
        ("model", "action", "because of"), ((one["model"], one["action"], ", ".join(one["what"])) for one in changes)
    )


def pin(model: ModelArgument, appliance: Appliance, how: How) -> None:
    """Keep a model loaded, whoever needs its room, until the next start; `pinned: true` in models.yaml is for good."""
    _say_pinned(appliance.act(route("instances", model, "pin"), how=how))


def unpin(model: ModelArgument, appliance: Appliance, how: How) -> None:
    """Let a model leave again, for want of use or of room."""
    _say_pinned(appliance.act(route("instances", model, "unpin"), how=how))


def drain(appliance: Appliance, how: How, drain_seconds: DrainOption = 60.0) -> None:
    """Refuse new requests and wait for those that run, before maintenance; `appliance resume` takes them again.

    Clients get 503 with Retry-After, and /readyz says so to a load balancer. Exit code 1 while requests still run.
    """
    answer = appliance.act("/drain", {"drain_seconds": drain_seconds}, how)
    typer.echo(f"{answer['running']} requests {'would be waited for' if how.plan else 'still run'}")
    if answer["running"] and not how.plan:
        raise typer.Exit(1)


def resume(appliance: Appliance, how: How) -> None:
    """Take requests again after a drain."""
    answer = appliance.act("/resume", how=how)
    typer.echo("new requests are refused" if answer["draining"] else "requests are taken")


def _say_pinned(found: dict[str, Any]) -> None:
    typer.echo(f"{found['id']} is {found['state']} and {'' if found['pinned'] else 'not '}pinned")


def _state(one: dict[str, Any]) -> str:
    return f"starting {one['progress']:.0%}" if one["state"] == "starting" else str(one["state"])


def _span(seconds: float | None, before: str = "") -> str:
    if seconds is None:
        return ""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{before}{seconds / size:.0f} {unit}"
    return f"{before}{seconds:.0f} s"
