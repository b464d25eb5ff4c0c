"""Aliases and rollouts over the admin API, with scripted workers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from appliance.admin_client import AdminClient
from appliance.alias_spec import AliasSpec, FallbackSpec, ModelsFile
from appliance.config import RequestLimits
from appliance.models.registry import Means
from appliance.models.rollouts import Rollouts
from appliance.models.router import Router
from appliance.state_dir import StateDir
from appliance.telemetry.recent_answers import RecentAnswers
from appliance.types import ModelSpec
from tests.admin.desk import Desk, refused
from tests.fakes.forking_launcher import ForkingLauncher
from tests.waiting import WAIT_SECONDS_MAX

NOW = {"hold_seconds": 0, "answers_min": 0}


@pytest.fixture
async def served(state: StateDir) -> AsyncIterator[AdminClient]:
    sizes = {"old": 8192, "new": 16384, "small": 2048}
    file = ModelsFile(
        models=tuple(ModelSpec(id=name, path="/x.gguf", n_ctx=size, parallel=1) for name, size in sizes.items()),
        aliases={"org/chat": AliasSpec(versions={"old": 1}, fallback=FallbackSpec(models=("small",)))},
    )
    router = Router(file, RequestLimits(), Means(ForkingLauncher()))
    router.start()
    rollouts = Rollouts(
        router.registry, RecentAnswers(), state.store / "rollouts.json", time.time, lambda *_: None, lambda: 1.0, 0.01
    )
    try:
        async with Desk.open(state, router=router, rollouts=rollouts) as desk, desk.client() as admin:
            desk.premises.served = [spec for spec in file.models if isinstance(spec, ModelSpec)]
            yield admin
    finally:
        await rollouts.close()
        await router.close(0)


async def test_an_alias_is_moved_and_moved_back(served: AdminClient) -> None:
    (before,) = await served.get("/aliases")
    assert before == {
        "alias": "org/chat",
        "versions": {"old": 1},
        "listed": {"old": 1},
        "sticky": "principal",
        "fallback": {"repeats_mib": 0, "repeats_seconds": 86400, "models": ["small"], "answer": None},
        "rollout": None,
    }
    path = "/aliases/org%2Fchat"
    assert (await served.post(f"{path}/rollout", {"model": "new", **NOW}, plan=True))["rollout"] is None
    begun = await served.post(f"{path}/rollout", {"model": "new", **NOW})
    assert begun["rollout"]["phase"] == "loading"
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while (found := (await served.get("/aliases"))[0])["rollout"]["phase"] != "done":  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert found["versions"] == {"new": 100} and found["rollout"]["percent"] == 100
    back = await served.post(f"{path}/rollback")
    assert back["versions"] == {"old": 1}


async def test_what_cannot_be_done_is_refused_with_what_can(served: AdminClient) -> None:
    for path, body, code, says in (
        ("/aliases/x/rollout", {"model": "new"}, "not_found", "known: org/chat"),
        ("/aliases/org%2Fchat/rollout", {"model": "newer"}, "not_found", "known: old, new, small"),
        ("/aliases/org%2Fchat/rollout", {"model": "new", "steps": [50]}, "invalid", "the last step must be 100"),
        ("/aliases/org%2Fchat/rollout", {"model": "new", "steps": [0, 100]}, "invalid", "steps"),
        ("/aliases/org%2Fchat/rollback", {}, "conflict", "no rollout"),
    ):
        error = await refused(served.post(path, body))
        assert (error.code, says in str(error)) == (code, True), str(error)


async def test_dify_s_sheet_names_an_alias_with_the_context_that_all_of_them_have(served: AdminClient) -> None:
    sheet = (await served.get("/clients/demo/dify", host="localhost"))["files"]["DIFY.md"]
    rows = [line for line in sheet.splitlines() if "org/chat" in line]
    assert any("2048" in row for row in rows)
