"""The installer as one file that the host's Python runs."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Final

# It runs before anything is verified by anybody else: nothing of the site's own Python may come between.
_INTERPRETER: Final = b"#!/usr/bin/python3 -I\n"
_MAIN: Final = "from installer.__main__ import main\n\nmain()\n"
_TIME: Final = (1980, 1, 1, 0, 0, 0)


def write_zipapp(package: Path, target: Path) -> None:
    """Packs the package's Python files; the same files give the same bytes."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(package.glob("*.py")):
            _add(archive, f"{package.name}/{path.name}", path.read_text())
        _add(archive, "__main__.py", _MAIN)
    target.write_bytes(_INTERPRETER + packed.getvalue())
    target.chmod(0o755)


def _add(archive: zipfile.ZipFile, name: str, text: str) -> None:
    info = zipfile.ZipInfo(name, _TIME)
    info.external_attr = 0o644 << 16
    info.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(info, text)
