"""appliance.runbook: the handbook in both languages has what an operator needs, and its commands exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final, get_args

import pytest
import typer

import appliance.cli
from appliance.alerting.rules import RULES
from appliance.runbook import Language, handbook, runbook, sections

REPOSITORY: Final = Path(__file__).parents[3]
WORDS: Final = {
    "en": ("Means: ", "Look", "Do", "**Warning**", "**Critical**"),
    "zh": ("含义：", "看", "做", "**警告**", "**严重**"),
}


@pytest.mark.parametrize("language", get_args(Language))
def test_every_alert_has_its_section(language: Language) -> None:
    means, look, do, warning, critical = WORDS[language]
    for rule in RULES:
        text = runbook(rule.name, language)
        assert text is not None, rule.name
        assert text.startswith(warning if rule.severity == "warning" else critical), rule.name
        assert means in text, rule.name
        assert re.search(rf"^{look}.*[:：]", text, re.M), rule.name
        assert f"\n{do}" in text or "do: " in text or "做：" in text, rule.name


def test_both_languages_have_the_same_sections_and_commands() -> None:
    english, chinese = sections(handbook("en")), sections(handbook("zh"))
    names = [name for name in english if re.fullmatch(r"[A-Z]\w+", name) and name != "Operations"]
    assert [name for name in names if name in {rule.name for rule in RULES}] == [rule.name for rule in RULES]
    assert len(english) == len(chinese)
    for rule in RULES:
        said = [{command[:2] for command in commands(text[rule.name])} for text in (english, chinese)]
        assert said[0] == said[1], rule.name


def test_what_is_shipped_is_what_is_read(tmp_path: Path) -> None:
    for name, language in (("OPERATIONS.md", "en"), ("OPERATIONS.zh.md", "zh")):
        assert (REPOSITORY / "docs" / name).read_text() == handbook(language)  # type: ignore[arg-type]
    assert runbook("NoSuchAlert") is None


def test_every_command_exists() -> None:
    group: Any = typer.main.get_command(appliance.cli.app)
    for words in commands(handbook("en")) + commands(handbook("zh")):
        assert words[0] in group.commands, words
        below = getattr(group.commands[words[0]], "commands", None)
        assert below is None or len(words) < 2 or words[1] in below, words


def commands(text: str) -> list[tuple[str, ...]]:
    """What is typed after `appliance`, up to the first thing that is no word of a command."""
    return [tuple(found.split()) for found in re.findall(r"`appliance ((?:[a-z][a-z-]+ ?)+)", text)]


def test_sections_end_where_the_next_of_their_rank_begins() -> None:
    text = "# A\na\n## B\nb\n### C\nc\n## D\nd\n"
    assert sections(text) == {"A": "a\n## B\nb\n### C\nc\n## D\nd", "B": "b\n### C\nc", "C": "c", "D": "d"}
