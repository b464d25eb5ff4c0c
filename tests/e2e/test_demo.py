"""What a new user does: start the demo, copy the lines it prints, use the official client and the commands."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import openai
import psutil
import pytest

from appliance.telemetry.request_export import json_lines
from appliance.telemetry.request_filter import parse
from tests.e2e.appliance_process import Appliance, run_command

QUESTION = "What is mutual TLS?"
ANSWER_BEGINS = "Mutual TLS means that both sides show a certificate"


@contextmanager
def openai_client(appliance: Appliance, client: str = "demo") -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{appliance.url}/v1",
        api_key=appliance.key(client),
        http_client=openai.DefaultHttpxClient(verify=appliance.context(client), timeout=100),
        max_retries=0,
    ) as api:
        yield api


def test_the_openai_client_streams_a_correct_answer(demo: Appliance) -> None:
    with openai_client(demo) as api:
        stream = api.chat.completions.create(
            model="demo",
            messages=[{"role": "user", "content": QUESTION}],
            stream=True,
            stream_options={"include_usage": True},
            temperature=0,
        )
        chunks = list(stream)
        whole = api.chat.completions.create(
            model="demo", messages=[{"role": "user", "content": QUESTION}], temperature=0
        )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text.startswith(ANSWER_BEGINS)
    assert whole.choices[0].message.content == text
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert whole.usage is not None
    assert chunks[-1].usage.prompt_tokens == whole.usage.prompt_tokens
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]][-1] == "stop"


async def test_the_async_client_and_models(demo: Appliance) -> None:
    http = openai.DefaultAsyncHttpxClient(verify=demo.context(), timeout=100)
    async with openai.AsyncOpenAI(base_url=f"{demo.url}/v1", api_key=demo.key(), http_client=http) as api:
        assert [model.id async for model in api.models.list()] == ["demo"]
        assert (await api.models.retrieve("demo")).id == "demo"
        answer = await api.completions.create(model="demo", prompt="x", max_tokens=3)
        assert answer.usage is not None
        assert answer.usage.completion_tokens <= 3


def test_several_choices_share_one_prompt(demo: Appliance) -> None:
    with openai_client(demo) as api:
        answer = api.chat.completions.create(
            model="demo", messages=[{"role": "user", "content": QUESTION}], n=3, temperature=0, max_tokens=12
        )
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert all(ANSWER_BEGINS.startswith((choice.message.content or "-").strip()[:20]) for choice in answer.choices)
    assert [choice.finish_reason for choice in answer.choices] == ["length"] * 3
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 36


def test_errors_are_the_clients_own_exceptions(demo: Appliance) -> None:
    with openai_client(demo) as api:
        with pytest.raises(openai.NotFoundError, match="does not exist"):
            api.chat.completions.create(model="nope", messages=[{"role": "user", "content": "x"}])
        with pytest.raises(openai.BadRequestError) as too_long:
            api.chat.completions.create(model="demo", messages=[{"role": "user", "content": "word " * 5000}])
        assert too_long.value.code == "context_length_exceeded"
        assert too_long.value.body["n_ctx"] == 2048  # type: ignore[index]
        assert too_long.value.body["n_prompt_tokens"] > 2048  # type: ignore[index]
        with pytest.raises(openai.AuthenticationError):
            api.with_options(api_key="wrong").models.list()


@pytest.mark.slow
def test_a_chinese_question_gets_a_chinese_answer(demo: Appliance) -> None:
    with openai_client(demo) as api:
        answer = api.chat.completions.create(model="demo", messages=[{"role": "user", "content": "你是谁？"}])
    assert "演示模型" in (answer.choices[0].message.content or "")


@pytest.mark.slow
def test_the_printed_lines_work_as_they_stand(demo: Appliance, tmp_path: Path) -> None:
    curl, python = demo.output.split("curl:\n")[1].split("Python:\n")
    streamed = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, timeout=100, check=True).stdout
    assert streamed.endswith("data: [DONE]\n\n")
    script = tmp_path / "snippet.py"
    script.write_text(python.split("Ctrl-C")[0])
    answer = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=100, check=True).stdout
    assert answer.startswith(ANSWER_BEGINS)


@pytest.mark.slow
def test_a_client_added_while_the_daemon_runs_works_at_once(demo: Appliance) -> None:
    added = run_command("clients", "add", "dify-test", "--state-dir", demo.state)
    assert added.returncode == 0, added.stderr
    with openai_client(demo, "dify-test") as api:
        assert [model.id for model in api.models.list()] == ["demo"]
    listed = run_command("clients", "list", "--state-dir", demo.state)
    assert "dify-test" in listed.stdout
    again = run_command("clients", "add", "dify-test", "--state-dir", demo.state)
    assert again.returncode == 1
    assert again.stderr.startswith("appliance: the client 'dify-test' exists")


@pytest.mark.slow
def test_run_answers_in_the_terminal(demo: Appliance) -> None:
    answer = run_command("run", "demo", QUESTION, "--state-dir", demo.state)
    assert answer.stdout.startswith(ANSWER_BEGINS)
    by_environment = run_command("run", "demo", QUESTION, env={"APPLIANCE_STATE_DIR": str(demo.state)})
    assert by_environment.stdout == answer.stdout
    unknown = run_command("run", "nope", "x", "--state-dir", demo.state)
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "does not exist; known models: demo" in unknown.stderr


def test_the_daemon_is_small(demo: Appliance) -> None:
    assert psutil.Process(demo.process.pid).memory_info().rss < 100 * 2**20
    assert len(demo.workers()) == 1


@pytest.mark.slow
def test_a_second_daemon_on_the_same_state_is_refused(demo: Appliance) -> None:
    second = run_command("serve", "--demo", "--port", "0", "--state-dir", demo.state)
    assert second.returncode == 1
    assert str(demo.process.pid) in second.stderr


def test_no_secret_is_in_the_logs(demo: Appliance) -> None:
    with openai_client(demo) as api:
        answer = api.chat.completions.with_raw_response.create(
            model="demo", messages=[{"role": "user", "content": QUESTION}], max_tokens=1
        )
    demo.record_of(answer.headers["X-Request-Id"])
    logged = b"".join(map(json_lines, demo.requests().all(parse("")))).decode()
    written = demo.log + demo.output + logged
    assert demo.key() not in written
    assert "PRIVATE KEY" not in written
    assert '"path":"/v1/chat/completions"' in logged
    assert QUESTION not in logged
