"""A host that was off until its server certificate ended, or whose clock was reset, starts all the same."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from appliance.config import Config
from appliance.errors import StateError
from appliance.security.opening import open_security
from appliance.security.tls import server_context
from appliance.state_dir import StateDir
from tests.unit.security.making import NOW


@pytest.mark.parametrize("away", [timedelta(days=-500), timedelta(days=500)], ids=["expired", "not valid yet"])
async def test_an_outdated_server_certificate_is_opened(tmp_path: Path, away: timedelta) -> None:
    state = StateDir(tmp_path / "state")
    state.prepare()
    open_security(state, Config(), tmp_path, {}, create=True, now=lambda: NOW + away).close()

    security = open_security(state, Config(), tmp_path, {}, create=False)
    view, active = security.office.access.view, security.office.document.server.active
    assert view.contexts["api"] is not None
    with pytest.raises(StateError, match=r"expired|not yet valid"):
        server_context(active, view.configured.names, None)
    security.close()
