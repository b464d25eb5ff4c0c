from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

from release.zipapp import write_zipapp

INSTALLER = Path(__file__).parents[3] / "installer"


def test_it_runs_alone_and_is_always_the_same(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    write_zipapp(INSTALLER, one)
    write_zipapp(INSTALLER, two)
    assert one.read_bytes() == two.read_bytes()
    told = subprocess.run([sys.executable, "-I", "-S", one, "--help"], capture_output=True, text=True, cwd="/")
    assert (told.returncode, "upgrade" in told.stdout) == (0, True), told.stderr


def test_it_needs_nothing_but_the_standard_library() -> None:
    for path in INSTALLER.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                top = name.partition(".")[0]
                assert top == "installer" or top in sys.stdlib_module_names, f"{path.name} imports {name}"
