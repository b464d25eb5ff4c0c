"""The dashboard against the real daemon, in a real terminal: it shows what the admin API says, and acts on it."""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.admin_client import AdminClient
from tests.e2e.appliance_process import Appliance, running_appliance
from tests.tui.tmux import Tmux, in_tmux
from tui import units

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed"),
]
REQUESTS = 24


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    with running_appliance(tmp_path_factory.mktemp("demo"), "--demo") as appliance:
        yield appliance


@pytest.fixture
def screen(demo: Appliance) -> Iterator[Tmux]:
    command = (sys.executable, "-m", "appliance", "top", "--no-mouse", "--state-dir", str(demo.state))
    with in_tmux(command) as made:
        made.wait("LIVE")
        yield made


def ask(demo: Appliance, path: str, **query: str | int) -> Any:
    async def work() -> Any:
        async with AdminClient.local(demo.state / "run" / "admin.sock") as client:
            return await client.get(path, **query)

    return asyncio.run(work())


def act(demo: Appliance, path: str, body: dict[str, Any]) -> None:
    async def work() -> None:
        async with AdminClient.local(demo.state / "run" / "admin.sock") as client:
            await client.post(path, body)

    asyncio.run(work())


async def load(demo: Appliance, requests: int) -> None:
    """Four at a time; every fourth is of a model that is not there."""

    async def one(number: int) -> None:
        model = "nix" if number % 4 == 3 else "demo"
        body = {"model": model, "max_tokens": 16, "messages": [{"role": "user", "content": f"Say {number}"}]}
        async with turns, session.post("/v1/chat/completions", json=body) as answer:
            assert answer.status == (404 if model == "nix" else 200), await answer.text()
            await answer.read()

    turns = asyncio.Semaphore(4)
    async with demo.session() as session, asyncio.TaskGroup() as group:
        for number in range(requests):
            group.create_task(one(number))


def test_screens_show_what_the_admin_api_says(demo: Appliance, screen: Tmux) -> None:
    before = len(ask(demo, "/requests", limit=1000)["requests"])

    async def under_load() -> None:
        async with asyncio.TaskGroup() as group:
            loading = group.create_task(load(demo, REQUESTS))
            while not loading.done():
                shown = await asyncio.to_thread(screen.text)
                # On a busy machine a snapshot may be late, which it says; it never loses the appliance.
                assert re.search(r" (LIVE|STALE) +\d", shown.splitlines()[0]), shown
                await asyncio.sleep(0.3)

    asyncio.run(under_load())
    total = before + REQUESTS

    def as_the_snapshot(shown: str) -> bool:
        found = ask(demo, "/snapshot")
        serving = found["serving"]
        # A snapshot is up to a second old: what it has none of, it leaves out.
        if serving.get("requests", 0) < total:
            return False
        wanted = (
            f"TTFT p50 {units.seconds(serving['ttft']['p50'])}",
            f"e2e  p95 {units.seconds(serving['total']['p95'])}",
            f"run 0/{found['models'][0]['slots']}",
            " LIVE ",
        )
        refused = re.search(r"404 model_not_f\S* +- +demo .* x6", shown)
        return refused is not None and all(one in shown for one in wanted)

    screen.wait(as_the_snapshot)
    screen.press("3")
    shown = screen.wait(lambda text: f" {total}\n" in re.sub(r" +\n", "\n", text))
    records = ask(demo, "/requests", limit=1)["requests"]
    assert records[0]["id"] in shown
    screen.press("4")
    screen.wait(ask(demo, "/keys")[0]["kid"])
    screen.press("6")
    newest = ask(demo, "/audit/head")["head"]["seq"]
    # Asking for the records is one more.
    screen.wait(lambda text: any(f"{newest + more} " in text for more in range(9)))


def test_a_model_is_unloaded_and_loaded(demo: Appliance, screen: Tmux) -> None:
    screen.press("2")
    # It is ready on the first screen too.
    screen.wait(lambda text: "<2Models>" in text and "READY" in text)
    screen.press("u")
    screen.wait("appliance models unload demo")
    # The first Enter is Cancel.
    screen.press("Enter")
    screen.wait("nothing was done")
    assert ask(demo, "/instances")["instances"][0]["state"] == "ready"
    screen.press("u")
    screen.wait("appliance models unload demo")
    screen.press("Tab", "Enter")
    screen.wait("model.unload demo: ok")
    screen.wait(" OFF ")
    assert ask(demo, "/instances")["instances"][0]["state"] == "stopped"
    screen.press("l")
    screen.wait("appliance models load demo")
    screen.press("Tab", "Enter")
    screen.wait("READY")
    actions = [record["action"] for record in ask(demo, "/audit/records", count=50)]
    assert {"model.load", "model.unload"} <= set(actions)


def test_a_change_of_the_allowlist_is_on_trial_until_it_is_kept(demo: Appliance, screen: Tmux) -> None:
    # Without this host, which has been here, it would have to be forced.
    act(demo, "/allowlist/stage", {"add": [{"network": "127.0.0.0/8"}]})
    screen.press("5")
    screen.wait("127.0.0.0/8")
    screen.press("a")
    screen.wait("STAGE AN ENTRY")
    screen.press("BTab", "BTab", "BTab", "BTab", *"10.31.4.0/24")
    screen.wait("appliance allow add 10.31.4.0/24")
    screen.press("Enter", "Enter", *"12h")
    screen.wait("appliance allow add 10.31.4.0/24 --for 12h")
    screen.press("Enter", "Enter", "Tab", "Enter")
    screen.wait("STAGED, NOT ACTIVE")
    found = ask(demo, "/allowlist")
    assert found["entries"] == []
    assert [one["until"] is None for one in found["staged"]["add"]] == [True, False]
    screen.press("A")
    screen.wait("Type apply")
    screen.press("BTab", *"apply", "Enter", "Tab", "Enter")
    shown = screen.wait("ON TRIAL: undone in")
    left = re.search(r"undone in (\d+) s", shown)
    assert left is not None
    assert 40 < int(left[1]) <= 60
    screen.press("K")
    screen.wait("KEEP WHAT IS ON TRIAL")
    screen.press("Tab", "Enter")
    screen.wait("allow.confirm allowlist: ok")
    found = ask(demo, "/allowlist")
    assert found["trial"] is None
    assert [one["network"] for one in found["entries"]] == ["127.0.0.0/8", "10.31.4.0/24"]


def test_a_killed_daemon_is_seen_and_found_again(tmp_path: Path) -> None:
    command = (sys.executable, "-m", "appliance", "top", "--no-mouse", "--state-dir", str(tmp_path / "state"))
    with running_appliance(tmp_path, "--demo") as first, in_tmux(command) as screen:
        screen.wait("LIVE")
        screen.press("3")
        screen.wait("<3Requests>")
        asyncio.run(load(first, 3))
        screen.wait(lambda text: " 3\n" in re.sub(r" +\n", "\n", text))
        first.kill()
        shown = screen.wait("DISCONNECTED")
        assert "NO DATA" in shown
        screen.press("1")
        shown = screen.wait("Seen from this host")
        assert "not listening" in shown
        assert "all actions are disabled" in shown
        screen.press("3")
        with running_appliance(tmp_path, "--demo"):
            screen.press("R")
            # The session keeps its place, and its requests.
            shown = screen.wait("LIVE")
            assert "<3Requests>" in shown
            assert " 3\n" in re.sub(r" +\n", "\n", shown)
