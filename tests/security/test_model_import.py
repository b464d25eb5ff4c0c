"""Importing models against whoever gets in between, and against kill -9."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from appliance.errors import ChangeRefused
from appliance.model_store.source import open_source
from appliance.model_store.store import ModelStore
from appliance.state_dir import StateDir
from tests.admin.conftest import founded, state
from tests.e2e.appliance_process import run_command
from tests.unit.model_store.conftest import NOW, put, source, store

__all__ = ["founded", "put", "source", "state", "store"]


@pytest.mark.slow
def test_what_is_swapped_while_it_is_imported_is_never_loaded_under_its_hash(
    tmp_path: Path, store: ModelStore, recite_gguf: Path, random_gguf: Path
) -> None:
    """Two files take each other's place all the time: what was hashed is what is there, or nothing is."""
    path, other = tmp_path / "m.gguf", tmp_path / "other.gguf"
    path.write_bytes(recite_gguf.read_bytes())
    other.write_bytes(random_gguf.read_bytes())
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            path.rename(tmp_path / "between")
            other.rename(path)
            (tmp_path / "between").rename(other)
            time.sleep(0.0005)

    swapping = threading.Thread(target=swap)
    swapping.start()
    whole = tries = 0
    try:
        while whole < 10 and tries < 1000:
            tries += 1
            try:
                with open_source(path) as opened:
                    staged = store.stage(opened, "m", lambda count: None)
            except ChangeRefused:
                continue
            title = staged.facts.name
            assert staged.first.read_bytes() == (recite_gguf if title == "recite" else random_gguf).read_bytes()
            store.discard(staged.folder)
            whole += 1
    finally:
        stop.set()
        swapping.join()
    assert whole == 10
    assert list(store.folder.iterdir()) == []


@pytest.mark.slow
def test_kill_9_at_random_moments_leaves_nothing_that_counts(state: StateDir, recite_gguf: Path) -> None:
    chance, store = random.Random(5), ModelStore(state.models)
    command = (sys.executable, "-m", "appliance", "models", "import", str(recite_gguf), "--state-dir", str(state.path))
    outcomes = set()
    for _ in range(14):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            time.sleep(chance.uniform(0.5, 3.0))
            workers = psutil.Process(process.pid).children() if process.poll() is None else []
            process.send_signal(signal.SIGKILL)
        _, alive = psutil.wait_procs(workers, timeout=60)
        assert not alive, "a worker outlived its command"
        with state.lock():
            left = {entry.name for entry in state.models.iterdir()}
        assert left <= {"recite"}
        if left:
            assert store.verify("recite", (), lambda count: None, lambda: NOW).fault is None
            store.remove("recite")
        outcomes.add(bool(left))
    assert False in outcomes
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    assert store.names() == ["recite"]


@pytest.mark.slow
def test_kill_9_while_a_model_is_quantised_leaves_nothing_that_counts(state: StateDir, random_gguf: Path) -> None:
    chance, store = random.Random(6), ModelStore(state.models)
    command = (sys.executable, "-m", "appliance", "models", "--state-dir", str(state.path))
    importing = (*command[:4], "import", str(random_gguf), "--name", "m", *command[4:])
    quantizing = (*command[:4], "quantize", "m", "--to", "iq4_xs", *command[4:])
    assert subprocess.run(importing, check=False, capture_output=True).returncode == 0
    outcomes = set()
    for _ in range(10):
        with subprocess.Popen(quantizing, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            time.sleep(chance.uniform(0.7, 4.0))
            workers = psutil.Process(process.pid).children() if process.poll() is None else []
            process.send_signal(signal.SIGKILL)
        _, alive = psutil.wait_procs(workers, timeout=60)
        assert not alive, "a worker outlived its command"
        with state.lock():
            left = {entry.name for entry in state.models.iterdir()}
        assert left <= {"m", "m-iq4_xs"}
        if "m-iq4_xs" in left:
            assert store.verify("m-iq4_xs", (), lambda count: None, lambda: NOW).fault is None
            store.remove("m-iq4_xs")
        outcomes.add(len(left))
    assert 1 in outcomes
    assert subprocess.run(quantizing, check=False, capture_output=True).returncode == 0
    assert store.names() == ["m", "m-iq4_xs"]


@pytest.mark.slow
def test_a_store_that_somebody_else_may_write_is_not_used(state: StateDir) -> None:
    state.models.chmod(0o777)
    said = run_command("models", "list", "--state-dir", state.path)
    assert said.returncode == 1
    assert "can be changed by other users" in said.stderr
