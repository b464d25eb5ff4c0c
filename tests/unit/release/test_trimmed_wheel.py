from __future__ import annotations

import zipfile
from pathlib import Path

from release.trimmed_wheel import trim

RECORD = "a/one.py,sha256=x,1\ninclude/a.h,sha256=y,1\na-1.dist-info/RECORD,,\n"


def test_what_is_unwanted_is_in_neither_files_nor_record(tmp_path: Path) -> None:
    wheel, trimmed = tmp_path / "a.whl", tmp_path / "b.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in {"a/one.py": "1", "include/a.h": "2", "a-1.dist-info/RECORD": RECORD}.items():
            archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), text)
    trim(wheel, trimmed, ("include/*",))
    with zipfile.ZipFile(trimmed) as archive:
        assert archive.namelist() == ["a/one.py", "a-1.dist-info/RECORD"]
        assert archive.read("a-1.dist-info/RECORD").decode() == RECORD.replace("include/a.h,sha256=y,1\n", "")
        assert archive.getinfo("a/one.py").date_time[0] == 2020
