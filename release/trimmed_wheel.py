"""A wheel without what nobody needs at run time: headers, and what only builds other programs."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Collection
from fnmatch import fnmatchcase
from pathlib import Path


def trim(wheel: Path, to: Path, unwanted: Collection[str]) -> None:
    """Writes the wheel anew without files that match a pattern, also in its record; the rest stays byte for byte."""
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED) as target:
        for member in source.infolist():
            if any(fnmatchcase(member.filename, pattern) for pattern in unwanted):
                continue
            content = source.read(member)
            if member.filename.endswith(".dist-info/RECORD"):
                content = _record(content, unwanted)
            target.writestr(member, content)


def _record(content: bytes, unwanted: Collection[str]) -> bytes:
    rows = csv.reader(io.StringIO(content.decode()))
    kept = (row for row in rows if not any(fnmatchcase(row[0], pattern) for pattern in unwanted))
    lines = io.StringIO()
    csv.writer(lines, lineterminator="\n").writerows(kept)
    return lines.getvalue().encode()
