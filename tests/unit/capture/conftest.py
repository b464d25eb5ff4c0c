"""Fixtures of the capture tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.capture import writer
from tests.unit.capture.making import Site


@pytest.fixture(autouse=True)
def quick_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer looks whether it must leave its file more often than once a second."""
    monkeypatch.setattr(writer, "TICK_SECONDS", 0.02)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)
