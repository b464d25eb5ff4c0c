"""The screen as an SVG."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from rich.segment import Segment
from rich.style import Style
from rich.terminal_theme import SVG_EXPORT_THEME

from tui.drawing.svg import as_svg


def svg(*rows: list[Segment], width: int = 20) -> str:
    return as_svg(rows, width, SVG_EXPORT_THEME, "what it is")


def texts(made: str) -> list[tuple[str, int]]:
    """Each text with the column that it begins in."""
    return [
        (found.text or "", int(found.attrib["x"]) // 10)
        for found in ElementTree.fromstring(made).iter("{http://www.w3.org/2000/svg}text")
    ]


def test_texts_stand_where_the_terminal_has_them() -> None:
    made = svg([Segment("  ab c  "), Segment("财务-x"), Segment("   "), Segment("z")])
    assert texts(made) == [("ab c", 2), ("财", 8), ("务", 10), ("-x   z", 12)]


def test_a_text_is_as_long_as_its_cells_in_any_font() -> None:
    assert 'textLength="40"' in svg([Segment("abcd")])
    assert "textLength" not in svg([Segment("财")])


def test_what_is_markup_stays_text() -> None:
    made = svg([Segment("</text><script>&")], [Segment("]]>")])
    assert texts(made) == [("</text><script>&", 0), ("]]>", 0)]


def test_colours_are_classes_and_the_background_is_drawn_once() -> None:
    dark = Style.parse("#ff0000 on #101418")
    made = svg(
        [Segment("aa", dark), Segment("bb", dark + Style(reverse=True))], [Segment("cc", dark + Style(bold=True))]
    )
    assert 'fill="#101418"/>' in made
    assert made.count("<rect") == 2
    assert "fill: #ff0000; font-weight: bold;" in made
    assert re.search(r'<rect x="20" y="0" width="20" height="19" fill="#ff0000"/>', made)


def test_what_is_dim_is_nearer_to_its_background() -> None:
    made = svg([Segment("aa", Style.parse("dim #ffffff on #000000"))])
    assert "fill: #999999;" in made


def test_it_fetches_nothing() -> None:
    made = svg([Segment("a")])
    assert set(re.findall(r"https?://[^\"]+", made)) == {"http://www.w3.org/2000/svg"}
    assert "url(" not in made
