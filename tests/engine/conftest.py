"""Model files and loaded workers for the engine tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.types import ModelSpec
from tests.engine.client import WorkerClient


@pytest.fixture(scope="module")
def recite(recite_gguf: Path) -> Iterator[WorkerClient]:
    """A worker that serves the recite model on 16 slots."""
    with WorkerClient(fork=True) as client:
        client.load(recite_spec(recite_gguf, parallel=16, n_ctx=8192))
        yield client


@pytest.fixture(scope="module")
def random_model(random_gguf: Path) -> Iterator[WorkerClient]:
    """A worker that serves the random-weight model on 4 slots."""
    with WorkerClient(fork=True) as client:
        client.load(random_spec(random_gguf))
        yield client


def recite_spec(path: Path, **changes: object) -> ModelSpec:
    """One thread: llama.cpp's threads wait for each other by spinning, which crawls where tests share the cores."""
    fields: dict[str, object] = {"id": "recite", "threads": 1, "threads_batch": 1}
    return ModelSpec(path=str(path), **(fields | changes))  # type: ignore[arg-type]


def random_spec(path: Path, **changes: object) -> ModelSpec:
    """Settings under which two orders of the same computation differ by 0.0001 in a logit at most.

    With flash attention or an f16 cache it is 0.03, and a greedy answer may turn where two tokens are that close.
    """
    exact: dict[str, object] = {"flash_attn": "off", "cache_type_k": "f32", "cache_type_v": "f32"}
    fields = {"n_ctx": 2048, "parallel": 4, "threads": 1, "threads_batch": 1, **exact}
    return ModelSpec(id="random", path=str(path), **(fields | changes))  # type: ignore[arg-type]
