"""`appliance models aliases|rollout|rollback`: names that lead to versions of a model, and move to new ones."""

from __future__ import annotations

import dataclasses
import sys
import time
from typing import Annotated, Any, Final

import typer

from appliance.admin_client import route
from appliance.cli.common import Appliance, print_json, print_table
from appliance.cli.options import CommandGroup, How, JsonOption
from appliance.errors import ConfigError

_POLL_SECONDS: Final = 1.0

AliasArgument = Annotated[str, typer.Argument(help="An alias in models.yaml.")]


@dataclasses.dataclass(frozen=True, slots=True)
class Judged:
    """What a rollout is held to."""

    steps: Annotated[str, typer.Option(help="Percent of the clients that get the new version, step by step.")] = (
        "5,50,100"
    )
    hold_seconds: Annotated[float, typer.Option("--hold", min=0, help="Seconds that a step lasts at least.")] = 600.0
    answers_min: Annotated[int, typer.Option("--answers", min=0, help="Answers of the new version a step takes.")] = 20
    mirror: Annotated[bool, typer.Option("--mirror", help="First send it copies of requests, for nobody.")] = False
    failure_rise_max: Annotated[
        float, typer.Option("--failure-rise", min=0, max=1, help="Back where its share of failures rises by more.")
    ] = 0.02
    latency_factor_max: Annotated[
        float, typer.Option("--latency-factor", min=1, help="Back where it takes so many times as long.")
    ] = 2.0


def add_to(models: CommandGroup) -> None:
    """The commands that are about aliases, as part of `appliance models`."""
    for command in (aliases, rollout, rollback):
        models.command()(command)


def aliases(appliance: Appliance, json: JsonOption = False) -> None:
    """Say where every alias leads, and how far its rollout is."""
    found = appliance.ask("/aliases")
    if json:
        print_json(found)
        return
    print_table(
        ("alias", "versions", "models.yaml", "fallback", "rollout"),
        (
            (
                one["alias"],
                _shares(one["versions"]),
                "" if one["versions"] == one["listed"] else _shares(one["listed"]),
                _fallback(one["fallback"]),
                "" if one["rollout"] is None else _progress(one["rollout"]),
            )
            for one in found
        ),
    )


def rollout(
    alias: AliasArgument,
    new: Annotated[str, typer.Argument(help="The id of the new version in models.yaml.")],
    appliance: Appliance,
    judged: Judged,
    how: How,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its end; exit code 1 when rolled back.")] = False,
) -> None:
    """Move an alias to a new version step by step, and back by itself where that fails more or is slower.

    It is loaded beside the old version where there is room for both, and asked for a token; where there is none, all
    clients are moved at once. What the rollout has come to counts until models.yaml gives the alias other versions.

    Example: appliance models rollout qwen3 qwen3-8b-2509 --steps 5,50,100 --hold 600
    """
    body = {**dataclasses.asdict(judged), "model": new, "steps": _steps(judged.steps)}
    found = appliance.act(route("aliases", alias, "rollout"), body, how)
    if how.plan:
        typer.echo(f"{alias} leads to {_shares(found['versions'])}; it would be moved to {new}")
        return
    if not wait:
        typer.echo(f"{alias} is being moved to {new}; `appliance models aliases` shows how far it is")
        return
    said = ""
    while found["rollout"] is not None and found["rollout"]["phase"] not in ("done", "rolled_back"):
        if (line := _progress(found["rollout"])) != said and sys.stderr.isatty():
            typer.echo(f"\r\x1b[K{line}", nl=False, err=True)
            said = line
        time.sleep(_POLL_SECONDS)
        found = next(one for one in appliance.ask("/aliases") if one["alias"] == alias)
    if said:
        typer.echo(err=True)
    typer.echo(f"{alias} leads to {_shares(found['versions'])}")
    if found["rollout"] is None or found["rollout"]["phase"] == "rolled_back":
        typer.echo(f"rolled back: {(found['rollout'] or {}).get('reason', 'models.yaml has changed')}", err=True)
        raise typer.Exit(1)


def rollback(alias: AliasArgument, appliance: Appliance, how: How) -> None:
    """Bring back at once what an alias led to before its newest rollout, under way or done."""
    found = appliance.act(route("aliases", alias, "rollback"), how=how)
    if how.plan:
        typer.echo(f"{alias} leads to {_shares(found['versions'])}; its rollout would be rolled back")
    else:
        typer.echo(f"{alias} leads to {_shares(found['versions'])}")


def _steps(written: str) -> list[float]:
    try:
        return [float(step) for step in written.split(",")]
    except ValueError:
        raise ConfigError(f"--steps: {written!r} is no list of percents such as 5,50,100") from None


def _shares(versions: dict[str, float]) -> str:
    total = sum(versions.values())
    if len(versions) == 1:
        return next(iter(versions))
    return ", ".join(f"{version} {100 * weight / total:.3g} %" for version, weight in versions.items())


def _fallback(fallback: dict[str, Any]) -> str:
    repeats = ["repeats"] if fallback["repeats_mib"] else []
    answer = [] if fallback["answer"] is None else ["a text"]
    return ", ".join([*repeats, *fallback["models"], *answer])


def _progress(rollout: dict[str, Any]) -> str:
    new, phase = rollout["new"], rollout["phase"]
    to = f"{rollout['model']}: {phase.replace('_', ' ')}"
    if phase == "loading":
        return f"{to} {rollout['reason']}".rstrip()
    if phase == "rolled_back":
        return f"{to}: {rollout['reason']}"
    if phase == "done":
        return to
    failed = f"{new['answers']} answers, {new['failed']} failed"
    return f"{to} at {rollout['percent']:g} %: {failed}; {rollout['reason']}"
