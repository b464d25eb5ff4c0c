from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from installer.host import Host, lacks, look_at_host
from tests.unit.installer.made import manifest

FIT = Host(
    root=True,
    machine="x86_64",
    python="3.11",
    glibc="2.36",
    systemd=252,
    missing=(),
    driver="580.82.07",
    disk_free_bytes=10**10,
)
NEEDS = manifest(driver_min="580.65", backend="cuda13")


def test_a_host_that_has_it_all_lacks_nothing() -> None:
    assert list(lacks(FIT, NEEDS)) == []
    assert list(lacks(replace(FIT, driver=None), manifest())) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"root": False}, "sudo"),
        ({"machine": "aarch64"}, "this host is aarch64"),
        ({"python": "3.10"}, "Python 3.10"),
        ({"glibc": "2.9"}, "must be 2.34"),
        ({"systemd": None}, "does not run"),
        ({"systemd": 249}, "must be 252"),
        ({"missing": ("libstdc++.so.6",)}, r"apt-get install libstdc\+\+6"),
        ({"disk_free_bytes": 10}, "are free"),
        ({"driver": None}, "CPU bundle"),
        ({"driver": "575.51"}, "must be 580.65"),
    ],
)
def test_what_is_lacking_is_said_with_what_to_do(change: dict[str, Any], says: str) -> None:
    (told,) = lacks(replace(FIT, **change), NEEDS)
    assert re.search(says, told)


def test_this_host_is_looked_at(tmp_path: Path) -> None:
    found = look_at_host(manifest(libraries=["libc.so.6", "libno-such-thing.so.9"]), tmp_path / "not/yet")
    assert "libno-such-thing.so.9" in found.missing
    assert "libc.so.6" not in found.missing
    assert found.disk_free_bytes > 0
