"""Every fixed word and sentence has its Chinese."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from datetime import timedelta, timezone
from pathlib import Path
from string import Formatter
from typing import Final, get_args

import tui
from appliance.security.api_keys import KeyState
from appliance.telemetry.snapshot import AlertState, ModelState
from tests.tui.proposals import proposals
from tui.board import State
from tui.drawing.frame import TABS
from tui.drawing.models import STATE_WORDS
from tui.drawing.request_rows import WIDE_COLUMNS
from tui.glyphs import ASCII
from tui.labels import CHINESE, translated
from tui.look import Look
from tui.proposals.proposal import REASON
from tui.sentence import Sentence, as_written, sentence

_FOLDER: Final = Path(tui.__file__).parent
# Which argument of a call is a fixed word, by its place or by its name.
_WORD_ARGUMENT: Final[dict[str, tuple[int | str, ...]]] = {
    "say": (0,),
    "sentence": (0,),
    "Column": (0,),
    "column": (0,),
    "KeyHint": (1,),
    "Binding": (2,),
    "Field": (1,),
    "Proposal": ("title", "verb"),
}
_ZONE: Final = timezone(timedelta(hours=8))


def words_in(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        named = {keyword.arg: keyword.value for keyword in node.keywords}
        for place in _WORD_ARGUMENT.get(name, ()):
            argument = named.get(place) if isinstance(place, str) else (*node.args, *(None,) * 3)[place]
            branches = (argument.body, argument.orelse) if isinstance(argument, ast.IfExp) else (argument,)
            for branch in branches:
                if isinstance(branch, ast.Constant) and isinstance(branch.value, str) and branch.value:
                    yield branch.value


def test_every_fixed_word_has_its_chinese() -> None:
    from tui.screens.palette import COMMANDS

    words = {word for path in _FOLDER.rglob("*.py") for word in words_in(path)}
    words |= {*TABS, *STATE_WORDS.values(), *get_args(State), *get_args(AlertState)}
    words |= {*get_args(ModelState), *get_args(KeyState), REASON}
    words |= set(_commands_of_screens())
    words |= {said for said, _ in COMMANDS} | {name for name, _ in WIDE_COLUMNS}
    assert sorted(words - CHINESE.keys()) == []


def _commands_of_screens() -> Iterator[str]:
    """What the functions `commands` of the screens give."""
    for path in (_FOLDER / "screens").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name == "commands":
                pairs = [one for one in ast.walk(node) if isinstance(one, ast.Tuple) and len(one.elts) == 2]
                for pair in pairs:
                    if isinstance(pair.elts[0], ast.Constant):
                        yield str(pair.elts[0].value)


def places(text: str) -> list[str]:
    return sorted(name for _, name, _, _ in Formatter().parse(text) if name is not None)


def test_a_sentence_has_the_same_places_in_both_languages() -> None:
    assert [said for said, chinese in CHINESE.items() if places(said) != places(chinese)] == []


def test_no_question_leaves_a_word_untranslated() -> None:
    """What is English in a Chinese question is a name, a key, a command or a figure."""
    chinese = Look(ASCII, _ZONE, "zh")
    for proposal in proposals():
        for said in (proposal.title, proposal.verb, *proposal.facts, *(one.label for one in proposal.fields)):
            if isinstance(said, Sentence) and said.written:
                continue
            shown = chinese.say(said)
            assert re.search("[\u4e00-\u9fff]", shown), shown


def test_a_sentence_in_a_sentence_is_said_too() -> None:
    said = sentence("It is {state} now.", state=sentence("ready"))
    assert Look(ASCII, _ZONE).say(said) == "It is ready now."
    assert Look(ASCII, _ZONE, "zh").say(said) == "它现在的状态：就绪。"


def test_what_others_wrote_is_as_it_is() -> None:
    assert Look(ASCII, _ZONE, "zh").say(as_written("{ready} Models")) == "{ready} Models"


def test_english_is_as_it_is_written() -> None:
    assert translated("Models", "en") == "Models"
    assert translated("Models", "zh") == "模型"
