"""The capture in the real daemon: turned on and off while it runs, read with the command, encrypted on the disk."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import msgspec
import pytest

from tests.e2e.appliance_process import Appliance, run_command, running_appliance
from tests.waiting import eventually

QUESTION = "Which colour has the sky over Exampleville?"
CONFIG = "audit: {disk_warn_bytes: 0}\n"


@pytest.mark.slow
async def test_on_read_rotate_off(tmp_path: Path) -> None:
    with running_appliance(tmp_path / "appliance", "--demo", config=CONFIG) as appliance:
        await _ask(appliance)
        folder = appliance.state / "store" / "capture"
        assert not folder.exists()
        assert "are captured" not in _run(appliance, "status")

        _configure(appliance, "capture: {enabled: true, principals: [demo]}\n")
        assert "prompts of 1 principal is captured: demo" in _run(appliance, "status")
        request_id = await _ask(appliance)
        # A thread writes it, at the disk's pace.
        eventually(lambda: request_id in _run(appliance, "capture", "list", "--json"))
        assert QUESTION in _run(appliance, "capture", "show", request_id)
        _run(appliance, "secrets", "rotate-data-key", "capture")
        assert QUESTION in _run(appliance, "capture", "show", request_id)

        _configure(appliance, "")
        await _ask(appliance)
        assert len(msgspec.json.decode(_run(appliance, "capture", "list", "--json"))["records"]) == 1
        log = _run(appliance, "audit", "tail", "--action", "capture")
        assert [action for action, _ in groupby(line.split()[3] for line in log.splitlines())] == [
            *("capture.enabled", "capture.list", "capture.read", "capture.disabled", "capture.list")
        ]
    for path in (tmp_path / "appliance").rglob("*"):
        assert not path.is_file() or b"Exampleville" not in path.read_bytes(), path


async def _ask(appliance: Appliance) -> str:
    body = {"model": "demo", "max_tokens": 4, "messages": [{"role": "user", "content": QUESTION}]}
    async with appliance.session() as session, session.post("/v1/chat/completions", json=body) as answer:
        said = await answer.text()
        assert answer.status == 200, said
        return answer.headers["X-Request-Id"]


def _configure(appliance: Appliance, text: str) -> None:
    (appliance.state.parent / "appliance.yaml").write_text(CONFIG + text)
    _run(appliance, "reload")


def _run(appliance: Appliance, *arguments: str) -> str:
    options = ("--state-dir", str(appliance.state), "--config", str(appliance.state.parent / "appliance.yaml"))
    done = run_command(*arguments, *options)
    assert done.returncode == 0, done.stderr
    return done.stdout
