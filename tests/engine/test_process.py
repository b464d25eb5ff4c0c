"""The worker as a process: how it ends, and what it shrugs off."""

from __future__ import annotations

import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from appliance.types import TokenPrompt
from appliance.wire import Abort
from tests.engine.client import WorkerClient, chat
from tests.engine.conftest import random_spec, recite_spec
from tests.models.hostile import HOSTILE_TEMPLATES
from tests.models.recite import build_recite, recited
from tests.models.vocabulary import word


def test_it_says_what_it_is() -> None:
    with WorkerClient() as client:
        command = " ".join(psutil.Process(client.process.pid).cmdline())
    assert "appliance" in command and "worker" in command


@pytest.mark.slow
def test_it_ends_when_the_socket_closes_while_idle(recite_gguf: Path) -> None:
    with WorkerClient() as client:
        client.load(recite_spec(recite_gguf))
        client.connection.close()
        assert client.process.wait(60) == 0


@pytest.mark.slow
def test_it_ends_when_the_socket_closes_before_a_load() -> None:
    with WorkerClient() as client:
        client.connection.close()
        assert client.process.wait(60) == 0


def computed_by_ended() -> float:
    """Seconds of processor time of all children that have been waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_it_ends_when_the_socket_closes_in_the_middle_of_a_step(random_gguf: Path) -> None:
    with WorkerClient() as client:
        client.load(random_spec(random_gguf, n_ctx=8192, n_batch=8192, n_ubatch=8192))
        number = client.add(TokenPrompt(tokens=(5,) * 8000), max_tokens=5)
        client.pump(lambda: client.answers[number].started is not None)
        used = psutil.Process(client.process.pid).cpu_times()
        before = computed_by_ended() + used.user + used.system
        client.connection.close()
        assert client.process.wait(60) == 0
        # The step itself takes far more.
        assert computed_by_ended() - before < 4


@pytest.mark.slow
def test_a_long_step_does_not_look_like_silence(random_gguf: Path) -> None:
    with WorkerClient() as client:
        spec = random_spec(random_gguf, n_ctx=8192, n_batch=8192, n_ubatch=8192)
        client.load(spec, step_seconds_max=600)
        number = client.add(TokenPrompt(tokens=tuple(range(5, 300)) * 16), max_tokens=2)
        empty = 0
        while client.answers[number].end is None:
            client.pump_once()
            empty += not client.step.events
        # One comes every second, and the step takes several.
        assert empty


@pytest.mark.slow
def test_ctrl_c_is_the_daemons_business(recite_gguf: Path) -> None:
    with WorkerClient() as client:
        client.load(recite_spec(recite_gguf))
        client.process.send_signal(signal.SIGINT)
        assert client.ask(word(1), max_tokens=2).text == recited(1, 2)


@pytest.mark.slow
def test_sigterm_is_the_daemons_to_answer(recite_gguf: Path) -> None:
    """A service manager signals every process; the daemon drains first and then closes the connection."""
    with WorkerClient() as client:
        client.load(recite_spec(recite_gguf))
        client.process.send_signal(signal.SIGTERM)
        assert client.ask(word(1), max_tokens=2).text == recited(1, 2)


def test_garbage_ends_it(recite_gguf: Path) -> None:
    client = WorkerClient()
    client.load(recite_spec(recite_gguf))
    client.connection.sendall(b"\xff" * 64)
    assert client.wait_gone() == 1
    client.connection.close()


def test_a_request_before_the_load_ends_it() -> None:
    client = WorkerClient()
    client.send(Abort(number=1))
    assert client.wait_gone() == 1
    client.connection.close()


def test_it_opens_no_network(recite_gguf: Path) -> None:
    with WorkerClient() as client:
        client.load(recite_spec(recite_gguf))
        assert psutil.Process(client.process.pid).net_connections("inet") == []


@pytest.mark.slow
def test_a_step_that_hangs_ends_the_worker(recite_gguf: Path) -> None:
    client = WorkerClient("tests.engine.wedged_worker")
    client.load(recite_spec(recite_gguf), step_seconds_max=0.5)
    began = time.monotonic()
    client.add(word(1), max_tokens=20)
    assert client.wait_gone() == 1
    assert 0.5 <= time.monotonic() - began < 30
    client.connection.close()


@pytest.mark.slow
def test_a_load_that_hangs_ends_the_worker(recite_gguf: Path) -> None:
    client = WorkerClient("tests.engine.wedged_worker")
    spec = recite_spec(recite_gguf, id="wedge-load")
    client.begin_load(spec, load_seconds_max=1)
    assert client.wait_gone() == 1
    client.connection.close()


@pytest.mark.slow
def test_an_idle_worker_outlives_its_step_deadline(recite_gguf: Path) -> None:
    with WorkerClient() as client:
        client.load(recite_spec(recite_gguf), step_seconds_max=1.0)
        assert client.ask(word(1), max_tokens=2).text == recited(1, 2)
        time.sleep(2.5)
        assert client.ask(word(1), max_tokens=2).text == recited(1, 2)


@pytest.mark.slow
def test_a_stalling_template_fails_alone_and_stalls_nobody(tmp_path: Path) -> None:
    path = tmp_path / "stall.gguf"
    build_recite(path, chat_template=HOSTILE_TEMPLATES["nested loops"])
    with WorkerClient() as client:
        info = client.load(recite_spec(path), template_seconds_max=1.0)
        assert info.chat_template
        stream = client.add(word(0), max_tokens=2000)
        client.pump(lambda: bool(client.answers[stream].deltas))
        before = len(client.answers[stream].deltas)
        began = time.monotonic()
        stalled = client.add(chat("hi"))
        client.pump(lambda: client.answers[stalled].end is not None)
        assert time.monotonic() - began < 30
        assert client.answers[stalled].failed.code == "template_error"
        assert len(client.answers[stream].deltas) > before + 10, "the stream went on meanwhile"
        client.abort(stream)
        client.wait(stream)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["class access", "large range", "long string", "refusal"])
def test_hostile_templates_in_a_model_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / "hostile.gguf"
    build_recite(path, chat_template=HOSTILE_TEMPLATES[name])
    with WorkerClient() as client:
        client.load(recite_spec(path), template_seconds_max=1.0)
        assert client.ask(chat("hi")).failed.code == "template_error"
        assert client.ask(word(3), max_tokens=1).text == "[004]"


@pytest.mark.slow
def test_a_model_without_a_template_completes_texts_only(tmp_path: Path) -> None:
    path = tmp_path / "plain.gguf"
    build_recite(path, chat_template=None)
    with WorkerClient() as client:
        assert not client.load(recite_spec(path)).chat_template
        failed = client.ask(chat("hi")).failed
        assert failed.code == "template_error" and "/v1/completions" in failed.message
        assert client.ask(word(3), max_tokens=1).text == "[004]"


@pytest.mark.slow
def test_a_reader_that_stops_reading_does_not_lose_frames(recite_gguf: Path) -> None:
    with WorkerClient() as client:
        client.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.load(recite_spec(recite_gguf))
        number = client.add(word(0), max_tokens=3000)
        time.sleep(0.5)
        (answer,) = client.wait(number)
        assert answer.text == recited(0, 3000)


_LOG_LATE = """
import ctypes, gc, sys
import llama_cpp
from appliance.engine.runner import load
from appliance.types import ModelSpec

spec = ModelSpec(id="m", path=sys.argv[1], n_ctx=256, parallel=1, threads=1, threads_batch=1)
runner = load(spec, lambda fraction: None)
gc.collect()
others = [llama_cpp.llama_log_callback(lambda level, text, data: None) for _ in range(2000)]
batch = llama_cpp.llama_batch_init(1, 0, 1)
assert llama_cpp.llama_decode(runner._context, batch) != 0
print("alive")
"""


@pytest.mark.slow
def test_llama_cpp_may_log_long_after_the_load(recite_gguf: Path) -> None:
    """A freed log callback is a crash at llama.cpp's next word: here, its complaint about an empty batch."""
    outcome = subprocess.run(
        [sys.executable, "-c", _LOG_LATE, str(recite_gguf)], capture_output=True, text=True, timeout=60, check=False
    )
    assert outcome.stdout == "alive\n", outcome.stderr
    assert "llama.cpp: " in outcome.stderr
