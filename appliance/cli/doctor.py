"""`appliance doctor`: whether the appliance can do its work, and what to do where it cannot."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from msgspec import to_builtins

from appliance.admin_client import AdminError, route
from appliance.cli.common import DEFAULT_CONFIG, Appliance, existing, print_json, print_table, state_of
from appliance.cli.options import REMOTE_ENV, How, JsonOption
from appliance.config import Config, load_config
from appliance.errors import ApplianceError, ConfigError

_MARKS: Final = {"ok": "ok", "warning": "! warning", "error": "!! error"}
# What is no sign of illness, but of somebody who may not ask.
_NOT_ALLOWED: Final = frozenset({"forbidden", "invalid"})


def doctor(
    appliance: Appliance,
    full: Annotated[
        bool, typer.Option("--full", help="Also read every imported model, and have the engine compute a token.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Look for what keeps the appliance from its work, and say what to do about it; exit code 1 on errors.

    With a daemon it is the daemon that looks; without one, or where it cannot be reached, this command does.
    """
    verdicts = examined(appliance, full=full)
    if json:
        print_json({"worst": _worst(verdicts), "verdicts": verdicts})
    else:
        print_table(
            ("", "check", "found", "next step"),
            ((_MARKS[one["level"]], one["check"], one["found"], one["next_step"]) for one in verdicts),
        )
    if _worst(verdicts) == "error":
        raise typer.Exit(1)


def examined(appliance: Appliance, *, full: bool) -> list[dict[str, Any]]:
    """Every verdict, as the admin API has them. Raises ApplianceError where this user may not ask."""
    try:
        found: list[dict[str, Any]] = appliance.ask("/doctor", full="true" if full else "false")["verdicts"]
    except AdminError as refused:
        # What is elsewhere cannot be looked at from here.
        if refused.code in _NOT_ALLOWED or os.environ.get(REMOTE_ENV):
            raise
        return _without_it(appliance, refused)
    except ApplianceError as unusable:
        if os.environ.get(REMOTE_ENV):
            raise
        return _without_it(appliance, unusable)
    return [*found, *(_read_models(appliance) if full else ())]


def _read_models(appliance: Appliance) -> list[dict[str, Any]]:
    """Has every imported model read and compared with its hashes."""
    found = []
    for model in appliance.ask("/store")["models"]:
        name = model["name"]
        try:
            appliance.attend(route("store", name, "verify"), {}, How(), _look)
            found.append(_verdict("models", "ok", f"{name}: every byte is as it was imported"))
        except AdminError as failed:
            if failed.code in _NOT_ALLOWED:
                raise
            found.append(_verdict("models", "error", f"{name}: {failed}", f"import {name} again"))
    return found


def _look(job: Mapping[str, Any]) -> None:
    """Nothing is shown meanwhile: what counts comes at the end."""


def _without_it(appliance: Appliance, trouble: ApplianceError) -> list[dict[str, Any]]:
    """What this command can see by itself where no admin API answers."""
    # Imported here: it brings with it what a daemon is made of.
    from appliance.doctor.examination import host_verdicts, state_verdict_of

    config, verdicts = Config(), []
    path: Path | None = None
    try:
        path = existing(appliance.config, DEFAULT_CONFIG)
        config = load_config(path)
    except ConfigError as refused:
        verdicts.append(_verdict("configuration", "error", str(refused), "mend it; `appliance check` looks again"))
    state = state_of(appliance.state_dir)
    there = state.path.exists()
    seen = [*host_verdicts(config, None, state if there else None), *([state_verdict_of(state)] if there else ())]
    verdicts += [to_builtins(one) for one in seen]
    if not any(one["found"] == str(trouble) for one in verdicts):
        verdicts.append(_verdict("service", "error", str(trouble), "start the appliance once this is mended"))
    return verdicts


def _verdict(check: str, level: str, found: str, next_step: str | None = None) -> dict[str, Any]:
    return {"check": check, "level": level, "found": found, "next_step": next_step}


def _worst(verdicts: Sequence[Mapping[str, Any]]) -> str:
    levels = {one["level"] for one in verdicts}
    return next((level for level in ("error", "warning") if level in levels), "ok")
