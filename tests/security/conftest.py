"""Fixtures of the black-box security tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from appliance.state_dir import StateDir
from tests.e2e.appliance_process import Appliance
from tests.security.daemons import scripted_appliance
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


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    """Its model says what and when the prompt tells it."""
    with scripted_appliance(tmp_path_factory.mktemp("scripted")) as appliance:
        yield appliance
