"""Alerts of the real daemon: it is killed again and again, and a real web server is told of that, once."""

from __future__ import annotations

import asyncio
import json
import ssl
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.appliance_process import Appliance, run_command, running_appliance
from tests.unit.alerting.delivery.conftest import ca, pair, tls
from tests.unit.alerting.delivery.servers import WebServer
from tests.waiting import until

__all__ = ["ca", "pair", "tls"]

KILLS = 3


@pytest.mark.slow
async def test_restarts_are_told_once_over_restarts(tmp_path: Path, tls: ssl.SSLContext, ca: str) -> None:
    async with WebServer().serving(tls) as server:
        url = f"https://127.0.0.1:{server.port}/hook"
        config = (
            f"audit: {{disk_warn_bytes: 0}}\nalerts: {{webhooks: [{{url: '{url}', ca: {ca}, severity: critical}}]}}\n"
        )
        for turn in range(KILLS):
            with running_appliance(tmp_path / "box", "--demo", config=config) as appliance:
                await until(lambda starts=turn + 1: len(saved(appliance)["starts"]) == starts)  # type: ignore[misc]
                appliance.kill()
        assert told(server) == []
        with running_appliance(tmp_path / "box", "--demo", config=config) as appliance:
            await until(lambda: len(told(server)) > 0)
            said = await typed(appliance, "alerts", "--json")
            assert "AppRestarting" in said
            assert f"has restarted {KILLS} times" in said
            tested = json.loads(server.posts[-1][2])
            await typed(appliance, "alerts", "ack", "AppRestarting", "--note", "a test does it")
            assert "arrived" in await typed(appliance, "alerts", "test")
            assert json.loads(server.posts[-1][2])["alerts"][0]["labels"]["alertname"] == "AlertTest"
            await until(lambda: [alert["state"] for alert in saved(appliance)["alerts"]] == ["acked"])
            appliance.kill()
        assert tested["alerts"][0]["labels"]["severity"] == "critical"
        with running_appliance(tmp_path / "box", "--demo", config=config) as appliance:
            # Time in which it might be told again.
            await asyncio.sleep(2.5)
            assert "acked by" in await typed(appliance, "alerts")
        assert told(server) == ["AppRestarting"]


def saved(appliance: Appliance) -> dict[str, Any]:
    """What the appliance would go on with after a kill."""
    path = appliance.state / "store" / "alerts.json"
    return json.loads(path.read_bytes()) if path.exists() else {"starts": [], "alerts": []}


def told(server: WebServer) -> list[str]:
    """Names of what came, but for tests."""
    names = [alert["labels"]["alertname"] for _, _, body in server.posts for alert in json.loads(body)["alerts"]]
    return [name for name in names if name != "AlertTest"]


async def typed(appliance: Appliance, *arguments: str) -> str:
    options = ("--state-dir", str(appliance.state), "--config", str(appliance.folder / "appliance.yaml"))
    done = await asyncio.to_thread(run_command, *arguments, *options)
    return done.stdout + done.stderr
