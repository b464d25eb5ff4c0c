"""Many requests at once: nothing is lost, repeated or reordered, and nothing is left behind."""

from __future__ import annotations

import random
from pathlib import Path

import psutil
import pytest

from appliance.types import SamplingParams
from appliance.wire import Finished
from tests.engine.client import WorkerClient
from tests.engine.conftest import recite_spec
from tests.models.recite import recited
from tests.models.vocabulary import word


@pytest.mark.slow
def test_64_streams_on_16_slots(recite: WorkerClient) -> None:
    starts = {recite.add(word(3 * index), max_tokens=220): 3 * index for index in range(64)}
    recite.wait(*starts)
    for number, start in starts.items():
        answer = recite.answers[number]
        assert answer.text == recited(start, 220)
        assert sum(delta.tokens for delta in answer.deltas) == 220
        assert answer.finished.reason == "length"
    assert (recite.step.running, recite.step.waiting) == (0, 0)


def random_aborts(client: WorkerClient, count: int) -> None:
    """Adds `count` requests and aborts each at some moment between before its start and its end."""
    source = random.Random(count)
    before = open_files(client)
    pending: list[int] = []
    starts: dict[int, int] = {}
    while len(starts) < count or pending:
        for _ in range(source.randrange(12)):
            if len(starts) < count:
                start = source.randrange(256)
                prompt = word(start - 2) * source.choice([1, 1, 600]) + word(start)
                sampling = SamplingParams(temperature=source.choice([0, 0.01]), repeat_penalty=1.0)
                number = client.add(prompt, sampling=sampling, max_tokens=source.choice([5, 200]))
                starts[number] = start
                pending.append(number)
        for _ in range(source.randrange(10) if len(starts) < count else len(pending)):
            if pending:
                client.abort(pending.pop(source.randrange(len(pending))))
        if not all(client.answers[number].end for number in starts):
            client.pump_once()
    client.wait(*starts)
    for number, start in starts.items():
        answer = client.answers[number]
        assert recited(start, 200).startswith(answer.text)
        assert answer.end is not None
        assert isinstance(answer.end, Finished) or answer.failed.code is None
    # A last request passes the check of cache, slots and samplers that the engine makes when it falls idle.
    assert client.ask(word(9), max_tokens=3).text == recited(9, 3)
    assert client.ask(word(9), max_tokens=3).text == recited(9, 3)
    assert (client.step.running, client.step.waiting) == (0, 0)
    assert open_files(client) == before


def open_files(client: WorkerClient) -> int:
    return psutil.Process(client.process.pid).num_fds()


def test_200_random_aborts(recite: WorkerClient) -> None:
    random_aborts(recite, 200)


@pytest.mark.slow
def test_2000_random_aborts(recite: WorkerClient) -> None:
    random_aborts(recite, 2000)


def test_an_aborted_request_gets_one_end(recite: WorkerClient) -> None:
    running = recite.add(word(1), max_tokens=None)
    recite.pump(lambda: bool(recite.answers[running].deltas))
    waiting = [recite.add(word(2), max_tokens=50) for _ in range(30)]
    for number in (running, *waiting, running, 10**9):
        recite.abort(number)
    ends = recite.wait(running, *waiting)
    assert ends[0].failed.code is None
    assert recite.ask(word(5), max_tokens=2).text == recited(5, 2)


def test_an_abort_frees_its_slot_at_once(recite_gguf: Path) -> None:
    with WorkerClient(fork=True) as client:
        client.load(recite_spec(recite_gguf, parallel=1, n_ctx=8192))
        hog = client.add(word(1), max_tokens=None)
        client.pump(lambda: bool(client.answers[hog].deltas))
        client.add(word(2), max_tokens=5)
        client.abort(hog)
        (answer,) = client.wait(2)
        assert answer.text == recited(2, 5)
        assert client.answers[hog].failed.message == "aborted"
