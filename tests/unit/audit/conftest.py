"""Fixtures of the audit tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.audit.making import Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    folder = tmp_path / "audit"
    folder.mkdir(mode=0o700)
    return Site(folder)
