"""Every fixed word has its Chinese."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final, get_args

import tui
from appliance.telemetry.snapshot import AlertState
from tui.board import State
from tui.drawing.frame import TABS
from tui.drawing.models import STATE_WORDS
from tui.drawing.request_rows import WIDE_COLUMNS
from tui.labels import CHINESE, translated

_FOLDER: Final = Path(tui.__file__).parent
# Which argument of a call is a fixed word.
_WORD_ARGUMENT: Final = {"say": 0, "Column": 0, "column": 0, "KeyHint": 1, "Binding": 2}


def words_in(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        place = _WORD_ARGUMENT.get(name)
        if place is None or place >= len(node.args):
            continue
        argument = node.args[place]
        branches = (argument.body, argument.orelse) if isinstance(argument, ast.IfExp) else (argument,)
        for branch in branches:
            if isinstance(branch, ast.Constant) and isinstance(branch.value, str) and branch.value:
                yield branch.value


def test_every_fixed_word_has_its_chinese() -> None:
    from tui.screens.palette import COMMANDS

    words = {word for path in _FOLDER.rglob("*.py") for word in words_in(path)}
    words |= {*TABS, *STATE_WORDS.values(), *get_args(State), *get_args(AlertState)}
    words |= {said for said, _ in COMMANDS} | {name for name, _ in WIDE_COLUMNS}
    assert sorted(words - CHINESE.keys()) == []


def test_english_is_as_it_is_written() -> None:
    assert translated("Models", "en") == "Models"
    assert translated("Models", "zh") == "模型"
