"""Answers that must be calls, through a real worker: in text, in control tokens, and after a thought."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from msgspec.structs import replace

from appliance.chat import Call, Reasoning, Tools, answer_parser, parts_of
from appliance.types import CallChoice, ChatPrompt, SamplingParams
from tests.engine.client import Answer, WorkerClient, chat
from tests.engine.conftest import random_spec, recite_spec
from tests.models.caller import build_caller
from tests.models.random_weights import build_random
from tests.models.recite import recited


def tool(name: str, **properties: Any) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return {"type": "function", "function": {"name": name, "description": "", "parameters": schema}}


TOOLS: Final = [
    tool("count", number={"type": "integer", "minimum": 0, "maximum": 99}),
    tool("find", text={"type": "string", "maxLength": 6}, kind={"enum": ["x", 'a "b"']}),
    tool("now"),
]
ONE: Final = CallChoice(parallel=False)
# A template that has the words of a format, and the control tokens that the vocabulary then has for it.
FORMATS: Final = {
    "mistral": ("[TOOL_CALLS]",),
    "deepseek": (
        "<｜tool▁calls▁begin｜>",
        "<｜tool▁calls▁end｜>",
        "<｜tool▁call▁begin｜>",
        "<｜tool▁call▁end｜>",
        "<｜tool▁sep｜>",
    ),
    "kimi": (
        "<|tool_calls_section_begin|>",
        "<|tool_calls_section_end|>",
        "<|tool_call_begin|>",
        "<|tool_call_end|>",
        "<|tool_call_argument_begin|>",
    ),
    "harmony": ("<|channel|>", "<|constrain|>", "<|message|>", "<|start|>", "<|end|>", "<|call|>"),
    "hermes": ("<tool_call>", "</tool_call>"),
    "glm": ("<tool_call>", "</tool_call>", "<arg_key>", "</arg_key>"),
    "llama3": (),
    "pythonic": (),
}


def prompt(tools: Sequence[dict[str, Any]] = TOOLS, text: str = "abc") -> ChatPrompt:
    return replace(chat(text), tools=tuple(tools))


def hot(seed: int) -> SamplingParams:
    return SamplingParams(temperature=1, top_k=0, top_p=1, min_p=0, seed=seed)


def calls_of(answer: Answer, tools: Sequence[dict[str, Any]] = TOOLS) -> list[Call]:
    """The calls that an answer is made of."""
    assert answer.started is not None and answer.started.answer is not None
    parts = parts_of(answer_parser(answer.started.answer, Tools(tools)), answer.text)
    calls = [part for part in parts if isinstance(part, Call)]
    assert calls and len(calls) == len(parts), (answer.text, parts)
    return calls


def check(call: Call) -> None:
    arguments = json.loads(call.arguments)
    match call.name:
        case "count":
            assert arguments.keys() == {"number"} and 0 <= arguments["number"] <= 99
        case "find":
            assert arguments.keys() == {"text", "kind"} and len(arguments["text"]) <= 6
            assert arguments["kind"] in ("x", 'a "b"')
        case _:
            assert (call.name, arguments) == ("now", {})


@pytest.fixture(scope="module")
def direct(random_gguf: Path) -> Iterator[WorkerClient]:
    """It does not think first: with random weights it would do so for ever."""
    with WorkerClient(fork=True) as client:
        client.load(random_spec(random_gguf, reasoning_format="none"))
        yield client


@pytest.mark.slow
def test_any_call(direct: WorkerClient) -> None:
    numbers = [
        direct.add(prompt(text=f"{seed}"), sampling=hot(seed), max_tokens=600, must_call=ONE) for seed in range(12)
    ]
    names = set()
    for answer in direct.wait(*numbers):
        assert answer.finished.reason == "stop"
        (call,) = calls_of(answer)
        check(call)
        names.add(call.name)
    assert len(names) > 1


def test_a_named_call(direct: WorkerClient) -> None:
    for seed, name in enumerate(("count", "find", "now")):
        choice = CallChoice(only=(name,), parallel=False)
        answer = direct.ask(prompt(), sampling=hot(seed), max_tokens=600, must_call=choice)
        assert answer.finished.reason == "stop"
        (call,) = calls_of(answer)
        assert call.name == name
        check(call)


@pytest.mark.slow
def test_a_call_of_one_of_some_tools(direct: WorkerClient) -> None:
    choice = CallChoice(only=("count", "now"), parallel=False)
    numbers = [
        direct.add(prompt(text=f"{seed}"), sampling=hot(seed), max_tokens=600, must_call=choice) for seed in range(12)
    ]
    names = {calls_of(answer)[0].name for answer in direct.wait(*numbers)}
    assert names == {"count", "now"}


@pytest.mark.slow
def test_several_calls(direct: WorkerClient) -> None:
    """It may go on as long as it likes."""
    numbers = [
        direct.add(prompt(text=f"{seed}"), sampling=hot(seed), max_tokens=400, must_call=CallChoice())
        for seed in range(12)
    ]
    ended = [answer for answer in direct.wait(*numbers) if answer.finished.reason == "stop"]
    several = [calls_of(answer) for answer in ended]
    for calls in several:
        for call in calls:
            check(call)
    assert max(map(len, several)) > 1


def test_a_schema_that_cannot_be_kept_names_the_choice(direct: WorkerClient) -> None:
    tools = [tool("f", x={"type": "string", "minLength": 3, "maxLength": 2})]
    failed = direct.ask(prompt(tools), must_call=CallChoice(param="function_call")).failed
    assert (failed.code, failed.param) == ("invalid_request", "function_call")


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_with_control_tokens(name: str, tmp_path: Path) -> None:
    path = tmp_path / "random.gguf"
    template = "{% for t in tools or [] %}{{ t.function.name }}{% endfor %}{{ messages[-1].content }}"
    build_random(path, chat_template=template, controls=FORMATS[name])
    with WorkerClient(fork=True) as client:
        client.load(random_spec(path, tool_format=name, reasoning_format="none"))
        numbers = [client.add(prompt(), sampling=hot(seed), max_tokens=600, must_call=ONE) for seed in range(4)]
        for answer in client.wait(*numbers):
            assert answer.finished.reason == "stop"
            (call,) = calls_of(answer)
            check(call)


@pytest.mark.slow
def test_random_thoughts_are_ended_and_calls_follow(random_model: WorkerClient) -> None:
    numbers = [
        random_model.add(prompt(), sampling=hot(seed), max_tokens=600, reasoning_budget=9, must_call=ONE)
        for seed in range(4)
    ]
    for answer in random_model.wait(*numbers):
        assert answer.finished.reason == "stop"
        assert answer.started is not None and answer.started.answer is not None
        parts = parts_of(answer_parser(answer.started.answer, Tools(TOOLS)), answer.text)
        assert isinstance(parts[-1], Call) and all(isinstance(part, Reasoning) for part in parts[:-1])
        check(parts[-1])


@pytest.mark.slow
def test_a_format_whose_thoughts_a_grammar_leaves_out(tmp_path: Path) -> None:
    """Then there is nothing that a budget could end."""
    path = tmp_path / "random.gguf"
    build_random(path, chat_template="{{ messages[-1].content }}", controls=FORMATS["harmony"])
    with WorkerClient(fork=True) as client:
        client.load(random_spec(path, tool_format="harmony", reasoning_format="harmony"))
        for budget in (0, 1, 9):
            answer = client.ask(prompt(), sampling=hot(budget), max_tokens=600, reasoning_budget=budget, must_call=ONE)
            assert answer.finished.reason == "stop"
            (call,) = calls_of(answer)
            check(call)


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerClient]:
    path = tmp_path_factory.mktemp("models") / "caller.gguf"
    build_caller(path)
    with WorkerClient(fork=True) as client:
        client.load(recite_spec(path, parallel=2, n_ctx=2048))
        yield client


@pytest.mark.parametrize("tokens", [0, 1, 20])
def test_a_thought_that_is_ended_comes_first(caller: WorkerClient, tokens: int) -> None:
    """The tokens that end it are drawn whatever the model wants, and the grammar goes along."""
    tools = [tool("f"), tool("g")]
    choice = CallChoice(only=("g",), parallel=False)
    answer = caller.ask(prompt(tools, "T"), reasoning_budget=tokens, max_tokens=300, must_call=choice)
    assert answer.finished.reason == "stop"
    assert answer.started is not None and answer.started.answer is not None
    parts = parts_of(answer_parser(answer.started.answer, Tools(tools)), answer.text)
    thought = recited(-1, tokens)
    assert parts == [*([Reasoning(thought)] if tokens else []), Call("g", "{}")]


def test_without_a_thought_it_is_a_call_at_once(caller: WorkerClient) -> None:
    answer = caller.ask(prompt([tool("f")], "C"), max_tokens=300, must_call=ONE)
    assert calls_of(answer, [tool("f")]) == [Call("f", "{}")]
