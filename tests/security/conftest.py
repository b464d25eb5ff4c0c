"""Fixtures of the black-box security tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appliance.state_dir import StateDir
from tests.security.site import Site, config


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    state = StateDir(tmp_path / "state")
    state.prepare()
    return state


@pytest.fixture
async def site(state: StateDir) -> AsyncIterator[Site]:
    async with Site.serve(state, config()) as site:
        yield site
