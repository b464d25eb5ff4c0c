"""What a worker says of how an answer is to be read, and the markers that a vocabulary keeps to itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest
from msgspec.structs import replace

from appliance.chat import Call, Content, Reasoning, Tools, answer_parser, parts_of
from appliance.types import AnswerFormat
from tests.engine.client import WorkerClient, chat
from tests.engine.conftest import recite_spec
from tests.models.caller import build_caller
from tests.models.recite import recited

TOOL: Final[dict[str, Any]] = {"type": "function", "function": {"name": "f", "description": ""}}
ANSWER: Final = AnswerFormat(tools="mistral", reasoning="mistral")


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerClient]:
    path = tmp_path_factory.mktemp("models") / "caller.gguf"
    build_caller(path)
    with WorkerClient(fork=True) as client:
        client.load(recite_spec(path, parallel=2, n_ctx=2048))
        yield client


def test_a_call_in_control_tokens(caller: WorkerClient) -> None:
    answer = caller.ask(replace(chat("C"), tools=(TOOL,)))
    assert answer.text == "[TOOL_CALLS]f[ARGS]{}"
    assert answer.started is not None
    assert answer.started.answer == ANSWER
    parser = answer_parser(answer.started.answer, Tools([TOOL]))
    assert parts_of(parser, answer.text) == [Call("f", "{}")]


def test_without_tools_they_stay_hidden(caller: WorkerClient) -> None:
    assert caller.ask(chat("C")).text == "f{}"
    assert caller.ask("C").text == "f{}"


def test_a_completion_is_not_read(caller: WorkerClient) -> None:
    answer = caller.ask("C")
    assert answer.started is not None
    assert answer.started.answer is None


@pytest.mark.parametrize("tokens", [0, 1, 20])
def test_a_thought_within_its_budget(caller: WorkerClient, tokens: int) -> None:
    answer = caller.ask(chat("T"), reasoning_budget=tokens, max_tokens=200)
    thought = recited(-1, tokens)
    assert answer.text == f"[THINK]{thought}\n[/THINK]\n\nA"
    assert answer.finished.reason == "stop"
    parts = parts_of(answer_parser(ANSWER, Tools()), answer.text)
    assert parts == [*([Reasoning(thought)] if tokens else []), Content("A")]


def test_a_thought_without_a_budget(caller: WorkerClient) -> None:
    assert caller.ask(chat("T"), max_tokens=21).text == "[THINK]" + recited(-1, 20)
