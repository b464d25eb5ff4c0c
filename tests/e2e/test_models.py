"""A running daemon and model files: import, quarantine, serve, touch, verify, remove."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import ANY

import pytest

from tests.e2e.appliance_process import Appliance, run_command, running_appliance
from tests.models.hostile import build_crashing
from tests.models.raw_gguf import sparse_header
from tests.waiting import eventually

pytestmark = pytest.mark.slow


async def ask(appliance: Appliance, model: str) -> tuple[int, str]:
    body = {"model": model, "max_tokens": 3, "messages": [{"role": "user", "content": "[001]"}]}
    async with appliance.session() as session, session.post("/v1/chat/completions", json=body) as answer:
        return answer.status, await answer.text()


async def test_from_a_file_to_an_answer(tmp_path: Path, recite_gguf: Path) -> None:
    entries = (
        f"models:\n  - {{id: served, path: state/models/mine/recite.gguf}}\n  - {{id: beside, path: {recite_gguf}}}\n"
    )
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "models.yaml").write_text(entries)
    crash = tmp_path / "crash.gguf"
    build_crashing(crash)
    with running_appliance(folder, "--models", folder / "models.yaml") as appliance:

        def models(*arguments: str | Path, code: int = 0) -> str:
            said = run_command("models", *arguments, "--state-dir", appliance.state)
            assert said.returncode == code, said
            return said.stdout + said.stderr

        assert (await ask(appliance, "beside"))[0] == 200
        assert "(signal 6)" in models("import", crash, code=1)
        assert (await ask(appliance, "beside"))[0] == 200
        # The worker that was thrown away is gone.
        eventually(lambda: len(appliance.workers()) == 1)
        assert "mine: imported" in models("import", recite_gguf, "--name", "mine")
        path = appliance.state / "models" / "mine" / "recite.gguf"
        os.utime(path)
        status, text = await ask(appliance, "served")
        assert (status, "was changed since it was imported or verified" in text) == (503, True)
        assert "whole" in models("verify", "mine")
        for _ in range(120):
            status, text = await ask(appliance, "served")
            if status == 200:
                break
            # A load that failed is tried again after a pause.
            await asyncio.sleep(0.5)
        assert status == 200, text
        assert "is loaded as served" in models("remove", "mine", "--yes", code=1)
        audited = run_command("audit", "tail", "-n", "100", "--state-dir", appliance.state)
        assert audited.stdout.count("model.import") == 4, audited
        assert models("list").count("quarantined") == 1
        assert "mine-q8_0: Q8_0 of mine" in models("quantize", "mine", "--to", "q8_0")
        more = f"  - {{id: smaller, path: {appliance.state}/models/mine-q8_0/mine-q8_0.gguf}}\n"
        (folder / "models.yaml").write_text(entries + more)
        assert "smaller" in models("apply")
        assert await ask(appliance, "smaller") == (200, ANY)
        models("remove", "mine-q8_0", "--yes", code=1)
        interrupted(appliance, tmp_path / "big.gguf")
        assert run_command("status", "--state-dir", appliance.state).returncode == 0


def interrupted(appliance: Appliance, path: Path) -> None:
    """Ctrl-C while the daemon copies: nothing is left."""
    path.write_bytes(sparse_header(8 * 2**30))
    os.truncate(path, path.stat().st_size + 8 * 2**30)
    command = (sys.executable, "-m", "appliance", "models", "import", str(path), "--state-dir", str(appliance.state))
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        while not list((appliance.state / "models").glob(".big.*")):
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "appliance: the import of big is cancelled\n")
    left = {".quarantine", "mine", "mine-q8_0"}
    eventually(lambda: {path.name for path in (appliance.state / "models").iterdir()} == left)
