"""A list as a file: CSV for a spreadsheet, or a JSON object a line. Pure but for `write_new`."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from appliance.errors import ApplianceError
from tui.units import NONE

Format = Literal["csv", "jsonl"]
# What a spreadsheet would take for the beginning of a formula.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_BYTE_ORDER_MARK: Final = "\ufeff"


def as_csv(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    """UTF-8 with a byte-order mark; a `'` before what would be a formula. What is not known is empty."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(titles)
    for row in rows:
        writer.writerow(_cell(one) for one in row)
    return (_BYTE_ORDER_MARK + text.getvalue()).encode()


def as_jsonl(rows: Iterable[object]) -> bytes:
    """Each row in full, with every field that it has."""
    encoder = msgspec.json.Encoder(enc_hook=str)
    return b"".join(encoder.encode(_plain(row)) + b"\n" for row in rows)


def write_new(path: Path, content: bytes) -> None:
    """For its owner alone, and over no other file. Raises ApplianceError."""
    try:
        handle = os.open(path.expanduser(), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
    except OSError as error:
        raise ApplianceError(f"{path}: {error.strerror}") from error


def _cell(text: str) -> str:
    if text == NONE:
        return ""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _plain(row: object) -> Any:
    return asdict(row) if is_dataclass(row) and not isinstance(row, type) else row
