"""Colours: what each role looks like. Meaning is never by colour alone; the words say it too.

`dark`, `light` and `contrast` bring their own colours; `ansi` uses the terminal's sixteen, and is the one that
NO_COLOR and serial lines get.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, get_args

from rich.style import Style

from tui.lines import Role

ThemeName = Literal["dark", "light", "contrast", "ansi"]
THEMES: Final[tuple[ThemeName, ...]] = get_args(ThemeName)


def _styles(**colours: str) -> Mapping[Role, Style]:
    """From a style for each role that has one; `cursor` and `tab` are reversed everywhere."""
    given = {"cursor": "reverse", "tab": "reverse", **colours}
    return {role: Style.parse(given.get(role, "")) for role in get_args(Role)}


_ROLES: Final[Mapping[ThemeName, Mapping[Role, Style]]] = {
    "dark": _styles(
        title="bold",
        head="bold #9db2c8",
        dim="#8a8a8a",
        good="#7fd68a",
        warn="#f2c94c",
        bad="bold #ff6b6b",
        accent="#6cb6ff",
        replay="bold #e38cff",
        weights="#6cb6ff",
        kv="#7fd68a",
        other="#f2c94c",
        free="#5a6470",
    ),
    "light": _styles(
        title="bold",
        head="bold #33475b",
        dim="#666666",
        good="#116329",
        warn="#8a5a00",
        bad="bold #b3001b",
        accent="#0b57d0",
        replay="bold #8a1fb8",
        weights="#0b57d0",
        kv="#116329",
        other="#8a5a00",
        free="#9aa4ad",
    ),
    "contrast": _styles(
        title="bold",
        head="bold",
        dim="#d0d0d0",
        good="bold #00ff00",
        warn="bold #ffff00",
        bad="bold #ff8080",
        accent="bold #80d0ff",
        replay="bold #ff80ff",
        weights="#80d0ff",
        kv="#00ff00",
        other="#ffff00",
        free="#808080",
    ),
    "ansi": _styles(
        title="bold",
        head="bold",
        dim="dim",
        good="green",
        warn="yellow",
        bad="bold red",
        accent="cyan",
        replay="bold magenta",
        weights="cyan",
        kv="green",
        other="yellow",
        free="dim",
    ),
}


def styles_of(name: ThemeName) -> Mapping[Role, Style]:
    """What each role looks like."""
    return _ROLES[name]


def faded(styles: Mapping[Role, Style]) -> Mapping[Role, Style]:
    """The same for figures that are of before: without colour, dim, with the cursor where it was."""
    dim = styles["dim"]
    return {role: dim + Style(reverse=True) if style.reverse else dim for role, style in styles.items()}
