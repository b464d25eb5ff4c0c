"""The trial of a model file, through a real worker: what it finds, what it refuses, and what it dies of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from appliance.config import WorkerLimits
from appliance.errors import LoadCrash, LoadError
from appliance.models.inspection import inspect_model
from appliance.models.launcher import SpawnLauncher
from appliance.types import ModelInfo
from tests.models.hostile import HOSTILE_TEMPLATES, build_crashing, build_not_numbers, build_unknown_architecture
from tests.models.pooled import Pooling, build_bert
from tests.models.recite import build_recite


async def inspected(path: Path, limits: WorkerLimits | None = None) -> ModelInfo:
    fractions: list[float] = []
    info = await inspect_model(
        path, SpawnLauncher(), limits or WorkerLimits(), size_bytes=2**20, progress=fractions.append
    )
    assert all(0 < fraction <= 1 for fraction in fractions)
    return info


async def refusal(path: Path, limits: WorkerLimits | None = None) -> LoadError:
    with pytest.raises(LoadError) as caught:
        await inspected(path, limits)
    return caught.value


def templated(template: str | None) -> Callable[[Path], None]:
    return lambda path: build_recite(path, chat_template=template)


async def test_a_good_model_says_what_it_is(recite_gguf: Path) -> None:
    info = await inspected(recite_gguf)
    assert (info.architecture, info.gpu_layers, info.chat_template, info.parallel) == ("llama", 0, True, 1)


@pytest.mark.parametrize(("pooling", "kind"), [("cls", "embedding"), ("rank", "rerank"), (None, "embedding")])
async def test_a_model_that_pools_says_what_it_is_for(tmp_path: Path, pooling: Pooling | None, kind: str) -> None:
    build_bert(tmp_path / "m.gguf", pooling)
    info = await inspected(tmp_path / "m.gguf")
    assert (info.kind, info.embedding_length) == (kind, 64)


async def test_a_crash_is_told_from_a_refusal(tmp_path: Path) -> None:
    build_crashing(tmp_path / "m.gguf")
    error = await refusal(tmp_path / "m.gguf")
    assert isinstance(error, LoadCrash)
    assert "signal 6" in str(error)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (build_unknown_architecture, "m.gguf: unknown model architecture: 'warpdrive'"),
        (build_not_numbers, "m.gguf: what it computes are no numbers"),
        (templated("{% if %}"), "m.gguf: its chat template does not compile"),
        (templated(HOSTILE_TEMPLATES["refusal"]), "m.gguf: its chat template does not take a plain question"),
        (templated(HOSTILE_TEMPLATES["nested loops"]), "was stopped: it ran for more than"),
        (templated(HOSTILE_TEMPLATES["class access"]), "m.gguf: its chat template does not take a plain question"),
    ],
)
async def test_refusals_have_a_reason(tmp_path: Path, build: Callable[[Path], None], reason: str) -> None:
    build(tmp_path / "m.gguf")
    error = await refusal(tmp_path / "m.gguf")
    assert not isinstance(error, LoadCrash)
    assert reason in str(error)


@pytest.mark.slow
async def test_without_a_template_and_with_a_long_prompt(tmp_path: Path) -> None:
    for template in (None, "word " * 2000):
        build_recite(tmp_path / "m.gguf", chat_template=template)
        assert (await inspected(tmp_path / "m.gguf")).chat_template == (template is not None)


@pytest.mark.slow
async def test_one_that_never_ends_counts_as_a_crash(recite_gguf: Path) -> None:
    error = await refusal(recite_gguf, WorkerLimits(load_seconds_min=0.001, load_mib_per_second_min=1e6))
    assert isinstance(error, LoadCrash)
    # On a busy machine the worker may not even have begun when its time is over.
    assert "stuck" in str(error) or "took longer" in str(error)


@pytest.mark.slow
async def test_who_stops_waiting_ends_the_worker(tmp_path: Path) -> None:
    build_recite(tmp_path / "m.gguf", chat_template=HOSTILE_TEMPLATES["nested loops"])
    before = psutil.Process().children()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(inspected(tmp_path / "m.gguf", WorkerLimits(template_seconds_max=60)), 1.5)
    assert set(psutil.Process().children()) <= set(before)
