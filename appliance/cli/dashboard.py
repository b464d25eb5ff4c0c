"""`appliance top` and `appliance tui`: the dashboard. It is imported only here: no other command needs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from appliance.cli.common import Appliance
from appliance.cli.options import JsonOption

if TYPE_CHECKING:
    from tui.source import Source

Scenario = Literal["calm", "slow", "oom", "expired", "empty"]
Theme = Literal["dark", "light", "contrast", "ansi"]
Language = Literal["en", "zh"]


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
    read_only: Annotated[bool, typer.Option("--read-only", help="Hide whatever changes something.")] = False


def top(
    appliance: Appliance,
    shown: Shown,
    demo: Annotated[bool, typer.Option("--demo", help="Show a made-up appliance.")] = False,
    seed: Annotated[int, typer.Option(help="Which one.")] = 1,
    scenario: Annotated[Scenario, typer.Option(help="calm, slow, oom, expired or empty.")] = "calm",
    once: Annotated[bool, typer.Option("--once", help="Print the overview as text, and end.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Watch the appliance: GPUs, latencies, models, requests, keys, certificates, allowlist, audit and log."""
    from tui.start import Wanted, open_dashboard
    from tui.terminal import Wishes

    open_dashboard(
        _source(appliance, demo=demo, seed=seed, scenario=scenario),
        Wanted(
            once=once,
            json=as_json,
            read_only=shown.read_only,
            slow=shown.slow,
            language=shown.lang,
            terminal=Wishes(ascii=shown.ascii, theme=shown.theme, mouse=not shown.no_mouse),
        ),
    )


def _source(appliance: Appliance, *, demo: bool, seed: int, scenario: Scenario) -> Source:
    if demo:
        from tui.demo.source import DemoSource

        return DemoSource(seed, scenario)
    from tui.live import LiveSource

    return LiveSource(appliance.daemon, appliance.where, "mtls" if appliance.is_remote else "unix")
