"""`appliance top` and `appliance tui`: the dashboard. It is imported only here: no other command needs it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal, get_args

import typer

from appliance.admin_endpoint import AdminEndpoint
from appliance.cli.common import Appliance
from appliance.cli.options import JsonOption
from appliance.errors import ConfigError

ADMIN_PORT: Final = 8444
Scenario = Literal["calm", "slow", "oom", "expired", "empty"]
Theme = Literal["dark", "light", "contrast", "ansi"]
Language = Literal["en", "zh"]
Screen = Literal["overview", "models", "requests", "keys", "allow", "audit", "logs"]
_SIZE: Final = re.compile(r"(\d{1,3})x(\d{1,3})")


@dataclass(frozen=True, slots=True)
class Shown:
    """How the dashboard is to look."""

    ascii: Annotated[bool, typer.Option("--ascii", help="Draw with ASCII alone.")] = False
    theme: Annotated[
        Theme | None, typer.Option(help="dark, light, contrast, or ansi: the terminal's own sixteen colours.")
    ] = None
    lang: Annotated[Language, typer.Option(help="en or zh.")] = "en"
    no_mouse: Annotated[bool, typer.Option("--no-mouse", help="Leave the mouse to the terminal.")] = False
    slow: Annotated[bool, typer.Option("--slow", help="For a serial line: draw once in five seconds.")] = False
    keymap: Annotated[Path | None, typer.Option("--keymap", help="A TOML file with other keys.")] = None
    read_only: Annotated[bool, typer.Option("--read-only", help="Hide whatever changes something.")] = False


@dataclass(frozen=True, slots=True)
class Pictured:
    """A picture instead of the screen."""

    screenshot: Annotated[
        Path | None, typer.Option("--screenshot", help="Write one screen to this new file, as SVG, and end.")
    ] = None
    screen: Annotated[Screen, typer.Option(help="Which one.")] = "overview"
    size: Annotated[str, typer.Option(help="Its columns and lines.")] = "160x45"

    def cells(self) -> tuple[int, int]:
        """Columns and lines. Raises ConfigError."""
        found = _SIZE.fullmatch(self.size)
        if found is None or min(int(found[1]), int(found[2])) < 1:
            raise ConfigError(f"--size {self.size!r} is no size; expected columns and lines, as 160x45")
        return int(found[1]), int(found[2])


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """An appliance on another host, instead of the one that the environment names."""

    host: Annotated[
        str | None, typer.Option("--host", help="Of another appliance's admin port: HOST or HOST:PORT.")
    ] = None
    bundle: Annotated[
        Path | None, typer.Option("--bundle", help="Your administrator's bundle; else APPLIANCE_ADMIN_BUNDLE.")
    ] = None


def top(
    appliance: Appliance,
    elsewhere: Elsewhere,
    shown: Shown,
    pictured: Pictured,
    demo: Annotated[bool, typer.Option("--demo", help="Show a made-up appliance.")] = False,
    seed: Annotated[int, typer.Option(help="Which one.")] = 1,
    scenario: Annotated[Scenario, typer.Option(help="calm, slow, oom, expired or empty.")] = "calm",
    once: Annotated[bool, typer.Option("--once", help="Print the overview as text, and end.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Watch the appliance: GPUs, latencies, models, requests, keys, certificates, allowlist, audit and log."""
    from tui.process import Demo, Task, become
    from tui.start import Wanted, open_dashboard
    from tui.terminal import Wishes

    there = None if demo else endpoint(appliance, elsewhere)
    task = Task(
        wanted=Wanted(
            once=once,
            json=as_json,
            read_only=shown.read_only,
            slow=shown.slow,
            language=shown.lang,
            appliance=_named(appliance),
            keymap=None if shown.keymap is None else str(shown.keymap.absolute()),
            screenshot=None if pictured.screenshot is None else str(pictured.screenshot.absolute()),
            screen=get_args(Screen).index(pictured.screen),
            size=pictured.cells(),
            terminal=Wishes(ascii=shown.ascii, theme=shown.theme, mouse=not shown.no_mouse),
        ),
        demo=Demo(seed=seed, scenario=scenario, still=pictured.screenshot is not None) if demo else None,
        endpoint=there,
        certificate_ends=None if there is None else there.ends(),
    )
    if once or as_json:
        open_dashboard(task.source(), task.wanted)
    else:
        become(task)


def _named(appliance: Appliance) -> tuple[str, ...]:
    """The options that name it, for commands that the dashboard starts."""
    config = () if appliance.config is None else ("--config", str(appliance.config.absolute()))
    return ("--state-dir", str(appliance.state_dir.absolute()), *config)


def endpoint(appliance: Appliance, elsewhere: Elsewhere) -> AdminEndpoint:
    """Where the figures come from. Raises ConfigError."""
    if elsewhere.host is None:
        return appliance.endpoint()
    bundle = elsewhere.bundle or os.environ.get("APPLIANCE_ADMIN_BUNDLE")
    if not bundle:
        raise ConfigError("--host needs your administrator's bundle: --bundle DIR, or APPLIANCE_ADMIN_BUNDLE")
    found = AdminEndpoint(url=f"https://{_with_port(elsewhere.host)}", bundle=str(bundle))
    # What is wrong with the bundle is said now, not on the screen.
    found.context()
    return found


def _with_port(host: str) -> str:
    """`host`, `host:port`, `[address]:port`; an IPv6 address without brackets has no port."""
    if host.count(":") > 1 and not host.startswith("["):
        host = f"[{host}]"
    return host if host.rpartition(":")[2].isdigit() and not host.endswith("]") else f"{host}:{ADMIN_PORT}"
