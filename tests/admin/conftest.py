"""Fixtures of the admin API's tests."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appliance.admin_client import AdminClient
from appliance.config import Config
from appliance.security.opening import open_security
from appliance.state_dir import StateDir
from tests.admin.desk import Desk


@pytest.fixture(scope="session")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory whose first start is over, for tests to copy: making certificates takes longer."""
    state = StateDir(tmp_path_factory.mktemp("founded") / "state")
    state.prepare()
    open_security(state, Config(), state.path, {}, create=True).close()
    return state.path


@pytest.fixture
def state(founded: Path, tmp_path: Path) -> StateDir:
    return StateDir(shutil.copytree(founded, tmp_path / "state"))


@pytest.fixture
async def desk(state: StateDir) -> AsyncIterator[Desk]:
    async with Desk.open(state) as desk:
        yield desk


@pytest.fixture
async def admin(desk: Desk) -> AsyncIterator[AdminClient]:
    async with desk.client() as client:
        yield client
