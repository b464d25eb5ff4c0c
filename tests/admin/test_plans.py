"""Every POST as a plan: it says what would happen, and nothing has happened."""

from __future__ import annotations

import re
from pathlib import Path

from appliance.access_config import Listener
from appliance.admin.routes import ROUTES
from appliance.admin_client import AdminClient
from appliance.config import Config
from appliance.keyring.recovery import generate_recovery_key
from appliance.state_dir import StateDir
from tests.admin.desk import Desk, refused

PLANNED = {route.action: route for route in ROUTES if route.method == "POST" and route.plans}
# What cannot succeed with what is prepared below; it is refused in a plan as it would be without.
REFUSED = {"server.import": "invalid", "crl.import": "invalid", "allow.revert": "conflict", "allow.confirm": "conflict"}
REFUSED |= {"model.remove": "not_found", "model.quantize": "not_found"}
# No daemon runs behind this desk.
REFUSED |= dict.fromkeys(("model.load", "model.unload", "model.pin", "model.unpin"), "conflict")
REFUSED |= dict.fromkeys(("model.rollout", "model.rollback", "host.drain", "host.resume"), "conflict")
REFUSED |= dict.fromkeys(("alert.ack", "alert.silence", "alert.test"), "conflict")
PUBLIC = str(generate_recovery_key()[1])


def body_of(action: str, folder: Path, serial: str, model: Path) -> dict[str, object]:
    bodies: dict[str, dict[str, object]] = {
        "client.create": {"name": "new"},
        "key.create": {"principal": "demo"},
        "certificate.revoke": {"certificate": serial},
        "certificate.issue": {"name": "new"},
        "server.import": {"chain": "hello"},
        "authority.rotate": {"step": "start"},
        "crl.import": {"crl": "hello"},
        "allow.stage": {"add": [{"network": "198.51.100.0/24"}]},
        "pepper.retire": {"pepper": 1, "force": True},
        "model.rollout": {"model": "new"},
        "model.quantize": {"to": "q4_k_m"},
        "model.import": {"path": str(model)},
        "alert.ack": {"name": "GpuHot", "what": "", "note": "a"},
        "alert.silence": {"name": "GpuHot", "reason": "a"},
        "backup.create": {"target": str(folder / "appliance.backup"), "recovery_public": PUBLIC},
    }
    return bodies.get(action, {})


def files_below(folder: Path) -> dict[str, bytes]:
    """All but what merely records and remembers."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "audit" not in path.parts and "run" not in path.parts:
            found[str(path.relative_to(folder))] = path.read_bytes()
    return found


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def test_plans_change_nothing(state: StateDir, tmp_path: Path, recite_gguf: Path) -> None:
    config = Config(listeners={"api": Listener(names=("llm.example",))})
    async with Desk.open(state, config) as desk, desk.client() as admin:
        await admin.post("/server/renew")
        await admin.post("/server/renew", {"stage_only": True})
        await admin.post("/server/request")
        await admin.post("/peppers/rotate")
        await admin.post("/clients", {"name": "gone"})
        await admin.post("/clients/gone/revoke")
        await admin.post("/allowlist/stage", {"add": [{"network": "192.0.2.0/24"}]})
        document, keys, folders = desk.office.document, desk.site.keyring.status(), files_below(state.path)
        kid, serial = next(iter(document.keys)), document.issued[0].serial
        done = [record for record in await desk.records() if record.outcome in ("allow", "ok")]
        names = {"{kid}": kid, "{token}": "jti", "{purpose}": "credentials", "{model}": "demo", "{alias}": "chat"}
        for action, route in PLANNED.items():
            names["{name}"] = {"client.restore": "gone", "authority.rotate": "client"}.get(action, "demo")
            path = re.sub(r"\{\w+\}", lambda match: names[match[0]], route.path)
            body = body_of(action, tmp_path, serial, recite_gguf)
            if action in REFUSED:
                assert (await refused(admin.post(path, body, plan=True))).code == REFUSED[action], action
            else:
                answer = await admin.post(path, body, plan=True)
                assert not re.search("PRIVATE KEY|apl_sk_", str(answer)), action
            assert admin.generation == document.generation, action
            assert desk.office.document is document, action
            assert desk.site.keyring.status() == keys, action
            assert files_below(state.path) == folders, action
        assert names_in(tmp_path) == {state.path.name}
        assert [record for record in await desk.records() if record.outcome in ("allow", "ok")] == done


async def test_what_cannot_be_planned_is_refused(admin: AdminClient, desk: Desk) -> None:
    for path in (
        "/reload",
        "/audit/verify",
        "/audit/take-key",
        "/approvals/x/approve",
        "/approvals/x/reject",
        "/store/x/verify",
    ):
        error = await refused(admin.post(path, plan=True))
        assert (error.code, "cannot be planned" in str(error)) == ("invalid", True), path
    assert desk.premises.reloads == []
    assert desk.office.audit.verification_key_is_here


async def test_a_plan_for_an_older_state_is_refused(admin: AdminClient, desk: Desk) -> None:
    kid = next(iter(desk.office.document.keys))
    for path in ("/clients/demo/renew", f"/keys/{kid}/rotate", "/server/renew", "/peppers/rotate"):
        for plan in (True, False):
            error = await refused(admin.post(path, plan=plan, generation=99))
            assert error.code == "generation_mismatch"
