"""What is on the screen as an SVG: a grid of cells, each line's texts in their colours. Pure.

It fetches nothing: fonts are named, not embedded. DejaVu Sans Mono is 0.602 of its size wide and 1.164 high, and so are
the cells, for lines of boxes to meet; `textLength` keeps the columns where another font stands in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from itertools import groupby
from typing import Final, NamedTuple

from rich.cells import cell_len
from rich.color import blend_rgb
from rich.color_triplet import ColorTriplet
from rich.segment import Segment
from rich.style import Style
from rich.terminal_theme import TerminalTheme

CELL_WIDTH: Final = 10
# A little less than the font's, so that no seam is seen between two lines of a box.
CELL_HEIGHT: Final = 19
_FONT_SIZE: Final = 16.61
_BASELINE: Final = 15
_FONTS: Final = (
    "'DejaVu Sans Mono','WenQuanYi Micro Hei Mono','Noto Sans Mono CJK SC','Noto Sans CJK SC',Menlo,Consolas,monospace"
)
# How much of the background is in what is dim.
_DIM: Final = 0.4


class Paint(NamedTuple):
    """How a cell looks, as `#rrggbb`; weight and decoration as CSS has them."""

    text: str
    background: str
    bold: bool
    underline: bool


class Cell(NamedTuple):
    """One character; columns: how many it takes, 1 or 2."""

    column: int
    columns: int
    character: str
    paint: Paint


def as_svg(rows: Sequence[Iterable[Segment]], width: int, theme: TerminalTheme, title: str) -> str:
    """theme: what the terminal's own colours look like. title: for whoever cannot see it."""
    drawn = [list(_cells(row, theme)) for row in rows]
    backgrounds = Counter(cell.paint.background for cells in drawn for cell in cells)
    base = max(backgrounds, key=lambda colour: backgrounds[colour], default=theme.background_color.hex)
    classes: dict[Paint, str] = {}
    boxes: list[str] = []
    texts: list[str] = []
    for number, cells in enumerate(drawn):
        top = number * CELL_HEIGHT
        for colour, run in groupby(cells, key=lambda cell: cell.paint.background):
            same = list(run)
            if colour != base:
                boxes.append(_box(same, top, colour))
        for run_of in _runs(cells):
            name = classes.setdefault(run_of[0].paint._replace(background=""), f"c{len(classes)}")
            texts.append(_text(run_of, top + _BASELINE, name))
    size = f"{width * CELL_WIDTH} {len(rows) * CELL_HEIGHT}"
    across, down = size.split()
    styles = "\n".join(f".{name} {{ {_css(paint)} }}" for paint, name in classes.items())
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{across}" height="{down}" viewBox="0 0 {size}">\n'
        f"<title>{escape(title, quote=False)}</title>\n<style>\n"
        f"text {{ font-family: {_FONTS}; font-size: {_FONT_SIZE}px; white-space: pre; }}\n{styles}\n</style>\n"
        f'<rect width="{across}" height="{down}" fill="{base}"/>\n'
        + "".join(boxes)
        + '<g xml:space="preserve">\n'
        + "".join(texts)
        + "</g>\n</svg>\n"
    )


def _cells(row: Iterable[Segment], theme: TerminalTheme) -> Iterator[Cell]:
    column = 0
    for segment in row:
        paint = _paint(segment.style or Style.null(), theme)
        for character in segment.text:
            columns = cell_len(character)
            if columns:
                yield Cell(column, columns, character, paint)
                column += columns


def _paint(style: Style, theme: TerminalTheme) -> Paint:
    text = theme.foreground_color if style.color is None else style.color.get_truecolor(theme)
    back = theme.background_color if style.bgcolor is None else style.bgcolor.get_truecolor(theme, foreground=False)
    if style.reverse:
        text, back = back, text
    if style.dim:
        text = ColorTriplet(*blend_rgb(text, back, _DIM))
    return Paint(text.hex, back.hex, bool(style.bold), bool(style.underline))


def _runs(cells: Sequence[Cell]) -> Iterator[list[Cell]]:
    """Texts that are drawn at once: of one look, without spaces at their ends; what takes two columns is alone."""
    for (_, wide), run in groupby(cells, key=lambda cell: (cell.paint, cell.column if cell.columns > 1 else None)):
        same = list(run)
        if wide is None:
            while same and same[0].character == " ":
                del same[0]
            while same and same[-1].character == " ":
                del same[-1]
        if same:
            yield same


def _box(cells: Sequence[Cell], top: int, colour: str) -> str:
    columns = sum(cell.columns for cell in cells)
    return (
        f'<rect x="{cells[0].column * CELL_WIDTH}" y="{top}" width="{columns * CELL_WIDTH}" height="{CELL_HEIGHT}"'
        f' fill="{colour}"/>\n'
    )


def _text(cells: Sequence[Cell], y: int, name: str) -> str:
    said = escape("".join(cell.character for cell in cells), quote=False)
    length = sum(cell.columns for cell in cells) * CELL_WIDTH
    # What takes two columns is narrower than them: stretched, it would stand apart from its neighbours.
    held = f' textLength="{length}"' if len(cells) > 1 else ""
    return f'<text x="{cells[0].column * CELL_WIDTH}" y="{y}" class="{name}"{held}>{said}</text>\n'


def _css(paint: Paint) -> str:
    return (
        f"fill: {paint.text};"
        + (" font-weight: bold;" if paint.bold else "")
        + (" text-decoration: underline;" if paint.underline else "")
    )
