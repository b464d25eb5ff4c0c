"""Models that are served, as an administrator sees and moves them; with real worker processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from appliance.admin_client import AdminClient, route
from appliance.alias_spec import ModelsFile
from appliance.config import RequestLimits
from appliance.models.registry import Means
from appliance.models.router import Router
from appliance.state_dir import StateDir
from appliance.types import ModelSpec
from tests.admin.desk import Desk, refused
from tests.fakes.forking_launcher import ForkingLauncher
from tests.waiting import WAIT_SECONDS_MAX


@dataclass
class Served:
    desk: Desk
    admin: AdminClient

    async def state(self, model: str) -> dict[str, object]:
        found = await self.admin.get("/instances")
        return next(one for one in found["instances"] if one["id"] == model)

    async def until(self, model: str, state: str) -> dict[str, object]:
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            while (found := await self.state(model))["state"] != state:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            return found


@pytest.fixture
async def served(state: StateDir) -> AsyncIterator[Served]:
    specs = [
        ModelSpec(id="org/a:q4", path="/nowhere.gguf", aliases=("a",), ttl=60.0),
        ModelSpec(id="b", path="/nowhere.gguf", group="big"),
    ]
    router = Router(ModelsFile(models=tuple(specs)), RequestLimits(), Means(ForkingLauncher()))
    router.start()
    try:
        async with Desk.open(state, router=router) as desk, desk.client() as admin:
            yield Served(desk, admin)
    finally:
        await router.close(0)


async def test_a_load_is_thought_through_without_loading(served: Served) -> None:
    found = await served.admin.get(route("instances", "org/a:q4", "preflight"))
    # Nothing is known of this machine's memory: it is tried.
    assert (found["fits"], found["evict"], found["host_bytes"]) == (True, [], None)
    assert (await served.state("org/a:q4"))["state"] == "stopped"
    assert (await refused(served.admin.get(route("instances", "none", "preflight")))).code == "not_found"


async def test_a_model_is_loaded_pinned_and_unloaded(served: Served) -> None:
    model, admin = "org/a:q4", served.admin
    before = await served.state(model)
    assert (before["state"], before["pid"], before["n_ctx"], before["idle_seconds"]) == ("stopped", None, None, None)
    planned = await admin.post(route("instances", model, "load"), plan=True)
    assert planned["state"] == "stopped"
    await admin.post(route("instances", "a", "load"))
    ready = await served.until(model, "ready")
    assert (ready["n_ctx"], ready["aliases"], ready["pinned"]) == (1000, ["a"], False)
    assert isinstance(ready["expires_seconds"], float) and 50 < ready["expires_seconds"] <= 60
    pinned = await admin.post(route("instances", model, "pin"))
    assert (pinned["pinned"], pinned["expires_seconds"]) == (True, None)
    unpinned = await admin.post(route("instances", model, "unpin"))
    assert (unpinned["pinned"], unpinned["expires_seconds"] is None) == (False, False)
    planned = await admin.post(route("instances", model, "unload"), {}, plan=True)
    assert planned["state"] == "ready"
    gone = await admin.post(route("instances", model, "unload"), {"drain_seconds": 1, "reason": "INC-7"})
    assert (gone["state"], gone["pid"]) == ("stopped", None)
    records = [f"{one.action} {one.outcome} {one.resource}" for one in await served.desk.records()]
    assert [one for one in records if one.startswith("model.")] == [
        "model.load allow org/a:q4",
        "model.pin allow org/a:q4",
        "model.unpin allow org/a:q4",
        "model.unload allow org/a:q4",
        "model.unload ok org/a:q4",
    ]
    assert [one.details for one in await served.desk.records() if one.action.startswith("model.")] == [
        {"before": "stopped", "after": "starting"},
        {"before": "not pinned", "after": "pinned"},
        {"before": "pinned", "after": "not pinned"},
        {"before": "ready", "why": "INC-7"},
        {"before": "ready", "after": "stopped"},
    ]


async def test_a_drain_and_its_end(served: Served) -> None:
    assert await served.admin.post("/drain", {}, plan=True) == {"draining": False, "running": 0}
    assert await served.admin.post("/drain", {"drain_seconds": 1}) == {"draining": True, "running": 0}
    assert (await served.admin.get("/instances"))["draining"]
    assert await served.admin.post("/resume") == {"draining": False, "running": 0}
    assert await served.desk.outcomes("host.drain") == ["allow", "ok"]


async def test_a_changed_models_yaml_is_planned_and_applied(served: Served) -> None:
    planned = await served.admin.post("/models/apply", plan=True)
    assert planned == {"changes": [{"model": "a", "action": "replace", "what": ["n_ctx"]}]}
    await served.admin.post("/models/apply")
    assert [plan for _, plan in served.desk.premises.applied] == [True, False]


async def test_what_is_not_there(served: Served) -> None:
    error = await refused(served.admin.post(route("instances", "c", "load")))
    assert (error.code, str(error)) == ("not_found", "there is no model 'c' in models.yaml; known: org/a:q4, b")


async def test_without_a_daemon_there_is_nothing_to_load(state: StateDir) -> None:
    async with Desk.open(state) as desk, desk.client() as admin:
        error = await refused(admin.get("/instances"))
        assert error.code == "conflict"
        assert "no daemon runs here" in str(error)
