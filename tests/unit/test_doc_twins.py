"""The Chinese documents have what the English ones have."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
TWINS = sorted(path.name.removesuffix(".zh.md") for path in DOCS.glob("*.zh.md"))
# Options, settings and variables. Of one language alone: its own placeholder, and how it is asked for.
_NAME = re.compile(r"--[a-z][a-z-]+|[A-Za-z]+(?:_[A-Za-z]+)+")
_OF_ONE = {"--lang", "REQUEST_ID"}


def shape(text: str) -> tuple[list[str], int, int]:
    """Levels of headings, rows of tables, points of lists."""
    return (
        [heading.rstrip() for heading in re.findall(r"^#+ ", text, re.MULTILINE)],
        len(re.findall(r"^ *\|", text, re.MULTILINE)),
        len(re.findall(r"^ *(?:-|\d+\.) ", text, re.MULTILINE)),
    )


def names(text: str) -> set[str]:
    return set(_NAME.findall(text)) - _OF_ONE


@pytest.mark.parametrize("name", TWINS)
def test_they_have_the_same_parts(name: str) -> None:
    english, chinese = ((DOCS / f"{name}{end}").read_text() for end in (".md", ".zh.md"))
    assert shape(english) == shape(chinese)


@pytest.mark.parametrize("name", TWINS)
def test_they_name_the_same_options_and_settings(name: str) -> None:
    english, chinese = ((DOCS / f"{name}{end}").read_text() for end in (".md", ".zh.md"))
    assert names(english) ^ names(chinese) == set()
