"""Which key a refused request came with: the request log knows it where the secret was right, and else does not say."""

from __future__ import annotations

from pathlib import Path

from appliance.audit.record import APPLIANCE
from appliance.security.key_changes import revoke_key
from appliance.state_dir import StateDir
from tests.security.gated_api import gated_api

BODY = b'{"model": "demo", "prompt": "say:x"}'


async def test_a_revoked_key_is_named_and_a_guessed_one_is_not(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    state.prepare()
    async with gated_api(state) as api:
        (kid,) = api.office.document.keys
        await api.office.change(
            APPLIANCE, "key.revoke", kid, lambda document, now: (revoke_key(document, kid, now), None)
        )
        assert (await api.post("/v1/completions", BODY)).status == 401
        assert [(one.status, one.key_id, one.principal) for one in api.records] == [(401, kid, None)]
        file = state.clients / "demo" / "api.key"
        file.chmod(0o600)
        file.write_text(f"apl_sk_{kid}_guessed")
        assert (await api.post("/v1/completions", BODY)).status == 401
        assert api.records[-1].key_id is None
