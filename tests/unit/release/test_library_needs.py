from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest
import uvloop

from release.library_needs import library_needs


@pytest.mark.skipif(shutil.which("objdump") is None, reason="binutils is not installed")
def test_what_compiled_wheels_need_is_read_from_them(tmp_path: Path) -> None:
    (library,) = Path(uvloop.__file__).parent.glob("loop*.so")
    wheel = tmp_path / "uvloop-1-cp311-cp311-linux_x86_64.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(library, "uvloop/loop.so")
        archive.writestr("uvloop/__init__.py", "")
    found = library_needs([wheel])
    assert tuple(map(int, found.glibc.split("."))) >= (2, 17)
    assert not any(name.startswith(("libc.so", "libpthread", "ld-linux")) for name in found.libraries)
