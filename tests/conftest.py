"""Fixtures every test may use: the tiny models, built once a session."""

from __future__ import annotations

import gc
import os
import signal
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, settings

from tests.fakes.gate import Gate
from tests.models import build_random, build_recite

# A busy machine must not fail a property: time is measured in bench/. `make check` tries fewer examples.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("full", PATIENT)
settings.register_profile("quick", PATIENT, max_examples=20)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "full"))

# A shell that runs us in the background has us ignore Ctrl-C, and so would all that we start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# What is imported and collected stays, a million objects: to look through them again and again takes longer than most
# tests, and a child would get a copy of every page.
gc.disable()


# New objects before the youngest are looked through. Each time, all that tests left is looked through in its turn.
_GC_THRESHOLDS: Final = (10_000, 20, 50)


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    gc.enable()


@pytest.fixture(scope="session")
def recite_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that recites the alphabet in a form known beforehand."""
    path = tmp_path_factory.mktemp("models") / "recite.gguf"
    build_recite(path)
    return path


@pytest.fixture(scope="session")
def random_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose every token depends on all tokens before it."""
    path = tmp_path_factory.mktemp("models") / "random.gguf"
    build_random(path)
    return path


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "open")
