from __future__ import annotations

from pathlib import Path

from release.lock import Pin, pins

LOCK = """
# a comment
numpy==2.4.6 ; python_full_version < '3.12' \\
    --hash=sha256:{a} \\
    --hash=sha256:{b}
    # via -r runtime.in
numpy==2.5.5 ; python_full_version >= '3.12' \\
    --hash=sha256:{b}
colorama==0.4.6 ; sys_platform == 'win32' \\
    --hash=sha256:{a}
PyYAML==6.0.3 \\
    --hash=sha256:{a}
""".format(a="a" * 64, b="b" * 64)


def test_each_python_has_its_own_pins(tmp_path: Path) -> None:
    lock = tmp_path / "some.lock"
    lock.write_text(LOCK)
    yaml = Pin("pyyaml", "6.0.3", frozenset({"a" * 64}))
    assert list(pins(lock, "3.11", "x86_64")) == [Pin("numpy", "2.4.6", frozenset({"a" * 64, "b" * 64})), yaml]
    assert list(pins(lock, "3.13", "x86_64")) == [Pin("numpy", "2.5.5", frozenset({"b" * 64})), yaml]


def test_every_pin_of_ours_is_found() -> None:
    lock = Path(__file__).parents[3] / "requirements/runtime.lock"
    pinned = {line.partition("==")[0] for line in lock.read_text().splitlines() if "==" in line and " ; " not in line}
    assert pinned <= {pin.name for pin in pins(lock, "3.11", "x86_64")}
