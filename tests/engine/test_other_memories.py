"""Models whose memory is no plain KV cache give the same answers warm, batched and cut up as cold and alone."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engine.client import WorkerClient
from tests.engine.conftest import random_spec
from tests.engine.test_consistency import prompts, text
from tests.models.other_memories import WINDOW, build_hybrid, build_recurrent, build_sliding_window

pytestmark = pytest.mark.slow


@pytest.fixture(
    scope="module",
    params=[build_recurrent, build_sliding_window, build_hybrid],
    ids=["recurrent", "sliding window", "hybrid"],
)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    build: Callable[[Path], None] = request.param
    path = tmp_path_factory.mktemp("models") / f"{build.__name__}.gguf"
    build(path)
    return path


def cold(path: Path, asked: list[str]) -> list[str]:
    """Each prompt on an empty cache."""
    answers = []
    with WorkerClient() as client:
        client.load(random_spec(path, parallel=1))
        for prompt in asked:
            answers.append(client.ask(prompt, max_tokens=30).text)
            client.ask("?", max_tokens=1)
    return answers


@pytest.mark.parametrize("changes", [{}, {"kv": "split"}, {"n_batch": 32, "n_ubatch": 32}], ids=str)
def test_batched_answers_are_those_of_each_alone(model: Path, changes: dict[str, object]) -> None:
    asked = prompts(8)
    expected = cold(model, asked)
    assert len(set(expected)) == len(expected), "the model must depend on its input"
    with WorkerClient() as client:
        client.load(random_spec(model, **changes))
        for _ in range(2):
            numbers = [client.add(prompt, max_tokens=30) for prompt in asked]
            assert [answer.text for answer in client.wait(*numbers)] == expected


def test_a_conversation_that_grows_and_one_that_turns_back(model: Path) -> None:
    source = random.Random(9)
    system = text(source, 3 * WINDOW)
    with WorkerClient() as client:
        client.load(random_spec(model, parallel=1))
        first = client.ask(system, max_tokens=30).text
        grown = system + text(source, 2 * WINDOW)
        turned = system[: len(system) // 2] + text(source, 20)
        warm = [client.ask(prompt, max_tokens=30).text for prompt in (grown, turned, system, grown, grown)]
    assert [first, *warm] == cold(model, [system, grown, turned, system, grown, grown])


def test_preemption(model: Path) -> None:
    asked = prompts(5, seed=3, lengths=(40, 60))
    with WorkerClient() as roomy:
        roomy.load(random_spec(model, parallel=1))
        expected = [roomy.ask(prompt, max_tokens=150).text for prompt in asked]
    with WorkerClient() as tight:
        tight.load(random_spec(model, n_ctx=300))
        numbers = [tight.add(prompt, max_tokens=150) for prompt in asked]
        assert [answer.text for answer in tight.wait(*numbers)] == expected
