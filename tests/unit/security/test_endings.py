"""appliance.security.endings"""

from __future__ import annotations

from datetime import timedelta

import pytest

from appliance.config import Config
from appliance.security import endings as module
from appliance.security.endings import endings
from appliance.security.opening import open_security
from appliance.state_dir import StateDir
from tests.admin.conftest import founded, state

__all__ = ["founded", "state"]


@pytest.mark.parametrize("most", [5, 32])
def test_what_ends_first_comes_first(state: StateDir, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ENDINGS_MAX", most)
    security = open_security(state, Config(), state.path, {}, create=False)
    document, now = security.office.document, security.office.now()
    security.close()
    found = endings(document, now)
    moments = [one.not_after for one in found.certificates]
    assert moments == sorted(moments)
    assert len(found.certificates) <= most
    assert {one.role for one in found.certificates} >= {"server", "server_ca", "client_ca", "admin_ca"}
    assert found.keys_active == 1 and found.keys_ending == 0
    key = next(iter(document.keys.values()))
    if key.works_until is not None:
        assert endings(document, key.works_until - timedelta(days=3)).keys_ending == 1
        assert endings(document, key.works_until + timedelta(days=3)).keys_active == 0
