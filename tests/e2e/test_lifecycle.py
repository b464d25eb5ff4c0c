"""The daemon and its workers under kill, SIGTERM, load and wrong configuration."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import psutil
import pytest

from appliance.telemetry.request_filter import parse
from tests.e2e.appliance_process import Appliance, run_command, running_appliance
from tests.models.vocabulary import word
from tests.waiting import until

# An answer of a busy machine takes longer than a stop usually waits for.
PATIENT = "shutdown: {drain_seconds: 300}\n"


def models_file(folder: Path, gguf: Path, **fields: object) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "models.yaml"
    # One thread: two that share busy cores with other tests wait for each other most of the time.
    threads = {"threads": 1, "threads_batch": 1}
    entry = {"id": "m", "path": str(gguf), "preload": True, "sampling": {"temperature": 0}, **threads, **fields}
    path.write_bytes(msgspec.yaml.encode({"models": [entry]}))
    return path


async def first_line(answer: aiohttp.ClientResponse) -> None:
    while not (await answer.content.readline()).startswith(b"data: {"):
        pass


def endless(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "prompt": word(0), "max_tokens": 100_000, "stream": True, **fields}


@pytest.mark.slow
async def test_a_worker_killed_mid_stream(tmp_path: Path, recite_gguf: Path) -> None:
    """A clean error chunk, and answers again."""
    models = models_file(tmp_path, recite_gguf)
    with running_appliance(tmp_path / "run", "--models", models) as appliance:
        async with appliance.session() as session, session.post("/v1/completions", json=endless()) as answer:
            await first_line(answer)
            (worker,) = appliance.workers()
            worker.kill()
            rest = (await answer.read()).decode()
            last = msgspec.json.decode(rest.rstrip("\n").rpartition("data: ")[2])
            assert last["error"]["code"] == "engine_crash"
            async with session.post("/v1/completions", json=endless(stream=False, max_tokens=4)) as again:
                assert again.status == 200


@pytest.mark.slow
async def test_sigterm_finishes_what_runs(tmp_path: Path, random_gguf: Path) -> None:
    models = models_file(tmp_path, random_gguf)
    with running_appliance(tmp_path / "run", "--models", models, config=PATIENT) as appliance, workers_end(appliance):
        async with appliance.session() as session:
            body = endless(max_tokens=500, ignore_eos=True)
            async with session.post("/v1/completions", json=body) as answer:
                await first_line(answer)
                appliance.process.send_signal(signal.SIGTERM)
                rest = (await answer.read()).decode()
        assert rest.endswith("data: [DONE]\n\n")
        assert '"finish_reason":"length"' in rest
        assert await asyncio.to_thread(appliance.process.wait, 60) == 0
    assert not (appliance.state / "run" / "api.url").exists()


@pytest.mark.slow
async def test_sigterm_to_the_whole_group_drains_too(tmp_path: Path, random_gguf: Path) -> None:
    """A service manager signals every process of the service."""
    models = models_file(tmp_path, random_gguf)
    with running_appliance(tmp_path / "run", "--models", models, config=PATIENT) as appliance:
        (worker,) = appliance.workers()
        async with appliance.session() as session:
            body = endless(max_tokens=500, ignore_eos=True)
            async with session.post("/v1/completions", json=body) as answer:
                await first_line(answer)
                worker.terminate()
                appliance.process.send_signal(signal.SIGTERM)
                assert (await answer.read()).endswith(b"data: [DONE]\n\n")
        assert await asyncio.to_thread(appliance.process.wait, 60) == 0


@pytest.mark.slow
async def test_a_second_signal_does_not_wait(tmp_path: Path, recite_gguf: Path) -> None:
    models = models_file(tmp_path, recite_gguf)
    with running_appliance(tmp_path / "run", "--models", models, config=PATIENT) as appliance, workers_end(appliance):
        async with appliance.session() as session, session.post("/v1/completions", json=endless()) as answer:
            await first_line(answer)
            appliance.process.send_signal(signal.SIGINT)
            await asyncio.to_thread(appliance.wait_for, "stopping")
            appliance.process.send_signal(signal.SIGINT)
            rest = (await answer.read()).decode()
        assert '"code":"shutting_down"' in rest
        assert await asyncio.to_thread(appliance.process.wait, 60) == 0


@contextmanager
def workers_end(appliance: Appliance) -> Iterator[None]:
    """No worker outlives its daemon."""
    workers = appliance.workers()
    yield
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert not alive


@pytest.mark.slow
async def test_a_killed_daemon_leaves_no_worker_and_starts_again(tmp_path: Path, recite_gguf: Path) -> None:
    models = models_file(tmp_path, recite_gguf)
    with (
        pytest.raises(AssertionError),
        running_appliance(tmp_path / "run", "--models", models) as appliance,
        workers_end(appliance),
    ):
        appliance.process.kill()
        appliance.process.wait()
    with running_appliance(tmp_path / "run", "--models", models) as appliance:
        async with appliance.session() as session, session.get("/v1/models") as answer:
            assert answer.status == 200


@pytest.mark.slow
@pytest.mark.parametrize(("aborts", "seconds"), [(2000, 900)])
@pytest.mark.timeout(1200)
async def test_random_aborts_leak_nothing(tmp_path: Path, recite_gguf: Path, aborts: int, seconds: float) -> None:
    """Clients that leave at random moments, queued, prefilling or streaming: no slot, fd or connection stays behind."""
    models = models_file(tmp_path, recite_gguf, parallel=8, n_ctx=16384)
    choice = random.Random(5)
    with running_appliance(tmp_path / "run", "--models", models) as appliance:
        (worker,) = appliance.workers()
        daemon = psutil.Process(appliance.process.pid)

        async def one(session: aiohttp.ClientSession) -> None:
            body = endless(stream=choice.random() < 0.7, prompt=word(choice.randrange(256)) * choice.randrange(1, 200))
            delay = choice.random() ** 3 * 0.4
            try:
                async with asyncio.timeout(delay), session.post("/v1/completions", json=body) as answer:
                    await answer.read()
            except TimeoutError:
                pass

        async def many(count: int) -> None:
            async with appliance.session() as session:
                for start in range(0, count, 32):
                    await asyncio.gather(*(one(session) for _ in range(min(32, count - start))))

        await many(32)
        await idle(appliance)
        before = daemon.num_fds(), worker.num_fds()
        async with asyncio.timeout(seconds):
            await many(aborts)
        await idle(appliance)
        # Some are open for a moment, on either side of it; a leak would be of hundreds.
        await until(lambda: daemon.num_fds() <= before[0] + 8 and worker.num_fds() <= before[1] + 8)
        body = endless(stream=False, max_tokens=4)
        async with appliance.session() as session, session.post("/v1/completions", json=body) as answer:
            assert answer.status == 200
        assert appliance.workers() == [worker]
        await asyncio.to_thread(appliance.record_of, answer.headers["X-Request-Id"])
        outcomes = {record.outcome for page in appliance.requests().all(parse("")) for record in page}
        assert outcomes <= {"client_gone", "ok"}


async def idle(appliance: Appliance) -> None:
    """Waits until the daemon has closed the connections of clients that left."""
    daemon = psutil.Process(appliance.process.pid)
    await until(lambda: len(daemon.net_connections(kind="tcp")) <= 1)


@pytest.mark.slow
def test_check_says_what_is_wrong(tmp_path: Path, recite_gguf: Path) -> None:
    good = run_command("check", "--models", models_file(tmp_path / "a", recite_gguf))
    assert (good.returncode, good.stderr) == (0, "")
    assert "ok, 1 model" in good.stdout
    missing = run_command("check", "--models", models_file(tmp_path / "b", tmp_path / "none.gguf"))
    assert missing.returncode == 1
    assert "none.gguf: No such file" in missing.stderr
    unknown = run_command("check", "--models", models_file(tmp_path / "c", recite_gguf, n_ctxx=5))
    assert "unknown key 'n_ctxx'; did you mean 'n_ctx'?" in unknown.stderr
    config = tmp_path / "appliance.yaml"
    config.write_text("listeners:\n  api: {allow: [10.0.0.5/8]}\n")
    hosts = run_command("check", "--config", config, "--models", models_file(tmp_path / "d", recite_gguf))
    assert hosts.returncode == 1
    assert "10.0.0.5/8" in hosts.stderr


@pytest.mark.slow
def test_a_port_in_use_says_what_to_do(tmp_path: Path, demo: Appliance) -> None:
    port = demo.url.rpartition(":")[2]
    refused = run_command("serve", "--demo", "--port", port, "--state-dir", tmp_path / "state")
    assert refused.returncode == 1
    assert f"port {port} on 127.0.0.1 is in use; choose another with --port" in refused.stderr


def test_version_and_help() -> None:
    assert run_command("version").stdout.strip() == "0.1.0"
    assert "serve" in run_command("--help").stdout


def test_a_worker_has_no_secret_in_its_environment(demo: Appliance) -> None:
    (worker,) = demo.workers()
    assert os.environ.get("PIP_CERT") is None or "PIP_CERT" not in worker.environ()
    assert "appliance" in " ".join(worker.cmdline())


@pytest.mark.slow
def test_a_lost_key_file_is_not_taken_for_a_first_start(tmp_path: Path, recite_gguf: Path) -> None:
    """It would make every client invalid without a word."""
    models = models_file(tmp_path, recite_gguf)
    with running_appliance(tmp_path / "run", "--models", models) as appliance:
        subprocess.run(
            ["bash", "-c", appliance.output.split("curl:\n")[1].split("Python:")[0]], check=True, timeout=100
        )
    (appliance.state / "secrets" / "credentials").unlink()
    refused = run_command("serve", "--port", "0", "--models", models, "--state-dir", appliance.state)
    assert refused.returncode == 1
    assert "credentials is missing although this appliance has served before" in refused.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("serve", "--demo", "--log-level", "loud"), "log level 'loud' is not one of debug"),
        (("serve", "--demo", "--state-dir", ""), "needs a folder of its own"),
        (("serve", "--models", "none.yaml"), "none.yaml: cannot be read"),
        (("run", "demo", "hello", "--state-dir", "/nonexistent"), "no running appliance found"),
    ],
    ids=str,
)
def test_wrong_arguments_are_one_clear_line(arguments: tuple[str, ...], says: str) -> None:
    refused = run_command(*arguments)
    assert refused.returncode == 1
    assert says in refused.stderr
    assert "Traceback" not in refused.stderr
