"""The answer does not depend on batching, chunking, caching, preemption or the kind of cache.

The random-weight model's answer depends on every cell of the cache, so that a wrong, lost or foreign cell shows.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.engine.client import WorkerClient
from tests.engine.conftest import random_spec, recite_spec
from tests.models.vocabulary import LETTERS, word

LENGTHS = (1, 5, 33, 64, 190, 301)


def prompts(count: int, *, seed: int = 1, lengths: tuple[int, ...] = LENGTHS) -> list[str]:
    source = random.Random(seed)
    return [text(source, lengths[index % len(lengths)]) for index in range(count)]


def text(source: random.Random, tokens: int) -> str:
    return "".join(source.choice([word(source.randrange(256)), source.choice(LETTERS)]) for _ in range(tokens))


@pytest.fixture(scope="module")
def alone(random_gguf: Path) -> list[str]:
    """Answers of a worker with one slot that sees each prompt by itself, from an empty cache."""
    answers = []
    with WorkerClient(fork=True) as client:
        client.load(random_spec(random_gguf, parallel=1))
        for prompt in prompts(12):
            answers.append(client.ask(prompt, max_tokens=40).text)
            client.ask("?", max_tokens=1)
    return answers


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"parallel": 12, "n_ctx": 8192},
        {"kv": "split", "n_ctx": 2048},
        {"n_batch": 32, "n_ubatch": 32},
        {"n_batch": 64, "n_ubatch": 32, "parallel": 3},
        {"n_ctx": 400, "parallel": 6},
    ],
    ids=str,
)
def test_batched_answers_are_those_of_each_alone(
    random_gguf: Path, alone: list[str], changes: dict[str, object]
) -> None:
    with WorkerClient(fork=True) as client:
        client.load(random_spec(random_gguf, **changes))
        for _ in range(2):
            numbers = [client.add(prompt, max_tokens=40) for prompt in prompts(12)]
            assert [answer.text for answer in client.wait(*numbers)] == alone
        assert client.step.running == client.step.waiting == 0


@pytest.mark.slow
def test_a_cached_prefix_gives_the_same_answer(random_gguf: Path) -> None:
    source = random.Random(5)
    system = text(source, 200)
    turns = [system + text(source, 30) for _ in range(6)]
    with WorkerClient(fork=True) as cold_client:
        cold_client.load(random_spec(random_gguf, parallel=1))
        cold = []
        for turn in turns:
            cold.append(cold_client.ask(turn, max_tokens=30).text)
            cold_client.ask("?" * 50, max_tokens=1)
    with WorkerClient(fork=True) as warm_client:
        warm_client.load(random_spec(random_gguf, parallel=1))
        warm = [warm_client.ask(turn, max_tokens=30) for turn in turns]
    assert [answer.text for answer in warm] == cold
    assert all(answer.finished.usage.cached_tokens >= 200 for answer in warm[1:])


@pytest.mark.slow
def test_preempted_sequences_go_on_as_if_nothing_had_happened(random_gguf: Path) -> None:
    asked = prompts(6, seed=3, lengths=(40, 60))
    with WorkerClient(fork=True) as roomy:
        roomy.load(random_spec(random_gguf, n_ctx=4096))
        expected = [roomy.ask(prompt, max_tokens=150).text for prompt in asked]
    with WorkerClient(fork=True) as tight:
        tight.load(random_spec(random_gguf, n_ctx=300, parallel=4))
        numbers = [tight.add(prompt, max_tokens=150) for prompt in asked]
        fewer = False
        running = 0

        def done() -> bool:
            nonlocal fewer, running
            ended = any(answer.end for answer in tight.answers.values())
            fewer = fewer or (not ended and tight.step.running < running)
            running = tight.step.running
            return all(tight.answers[number].end for number in numbers)

        tight.pump(done)
        assert fewer, "nothing was preempted: the test is too roomy"
        assert [tight.answers[number].text for number in numbers] == expected
        assert tight.step.kv_cells <= 300


def test_split_mode_reports_and_keeps_its_own_limit(recite_gguf: Path) -> None:
    with WorkerClient(fork=True) as client:
        info = client.load(recite_spec(recite_gguf, n_ctx=1024, parallel=4, kv="split"))
        assert (info.kv, info.n_ctx, info.n_ctx_total) == ("split", 256, 1024)
        assert client.ask("a" * 300).failed.details == {"n_prompt_tokens": 301, "n_ctx": 256}
        numbers = [client.add(word(index), max_tokens=None) for index in range(4)]
        for answer in client.wait(*numbers):
            assert answer.finished.usage.completion_tokens == 254


def test_a_prefix_is_not_shared_between_cache_domains(random_model: WorkerClient) -> None:
    """Neither time nor usage tells one client what another has asked."""
    prompt = text(random.Random(77), 60)
    mine = [random_model.ask(prompt, max_tokens=2, domain="mine") for _ in range(2)]
    other = random_model.ask(prompt, max_tokens=2, domain="other")
    assert [answer.finished.usage.cached_tokens for answer in mine] == [0, mine[0].finished.usage.prompt_tokens - 1]
    assert other.finished.usage.cached_tokens == 0
    assert other.text == mine[0].text
