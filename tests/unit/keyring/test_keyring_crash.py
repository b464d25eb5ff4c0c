"""appliance.keyring.keyring: `kill -9` at any moment of a rotation or a rekey loses nothing."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from appliance.errors import StateError
from appliance.keyring.file_kek import FileKek
from appliance.keyring.keyring import Keyring
from tests.unit.keyring.conftest import start

KILL_SECONDS_MAX = 0.06


def kill_one(folder: Path, seed: int) -> None:
    """Starts a writer, kills it at some moment, and checks that one of the two KEKs opens all it wrote before."""
    for name in ("kek-a", "kek-b"):
        (folder / name).mkdir(parents=True)
    command = [sys.executable, "-m", "tests.unit.keyring.ring_writer", str(folder), str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        first = writer.stdout.readline()
        time.sleep(random.Random(seed).uniform(0, KILL_SECONDS_MAX))
        writer.kill()
        lines = (first + writer.stdout.read()).splitlines(keepends=True)
    assert writer.returncode == -9
    records = [line.split() for line in lines if line.endswith("\n")]
    assert records
    ring = open_with_either(folder)
    for number, sealed in records:
        assert ring.unseal("audit", number, bytes.fromhex(sealed)) == number.encode()
    counts = {key.id: key.messages for key in ring.status()}
    for key_id in {sealed[2:18] for _, sealed in records}:
        assert counts[key_id] >= sum(sealed[2:18] == key_id for _, sealed in records)
    generation = max(key.generation for key in ring.status() if key.purpose == "audit")
    assert ring.rotate("audit") == generation + 1, "the ring goes on"


def open_with_either(folder: Path) -> Keyring:
    """The ring is whole under one of them, and under one alone."""
    rings: list[Keyring] = []
    for name in ("kek-a", "kek-b"):
        try:
            kek = FileKek.open(folder / name, create=False)
            rings.append(Keyring.open(folder / "keyring.json", kek, start, create=False))
        except StateError:
            pass
    assert len(rings) == 1
    return rings[0]


@pytest.mark.parametrize("seed", range(10))
def test_a_killed_writer_loses_nothing(tmp_path: Path, seed: int) -> None:
    kill_one(tmp_path, seed)


@pytest.mark.slow
def test_a_hundred_killed_writers_lose_nothing(tmp_path: Path) -> None:
    for seed in range(1000, 1100):
        kill_one(tmp_path / str(seed), seed)
