"""Chat as Dify's own classes see it: validation, streams, tokens, stop words, odd messages, structured output."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from tests.dify.judge_process import LLM, Judge, needs_sdk
from tests.dify.parts import REACT
from tests.models.recite import recited

pytestmark = [needs_sdk, pytest.mark.slow]

FORMS = {
    "blocking": {},
    "stream": {"stream_mode_auth": "use"},
    "max_completion_tokens": {"token_param_name": "max_completion_tokens"},
    "completion": {"mode": "completion"},
    "extended": {"compatibility_mode": "extended"},
    "slash": {},
}


@pytest.mark.parametrize("form", list(FORMS))
def test_every_form_of_validation(judge: Judge, form: str) -> None:
    call = judge.call("validate", "demo", LLM | FORMS[form], kind="llm")
    if form == "slash":
        call["credentials"]["endpoint_url"] += "/"
    answer = judge.ask(**call)
    assert answer.get("valid"), answer
    assert answer["seconds"] < 60


def test_validation_once_more_without_thinking(judge: Judge) -> None:
    assert judge.told("validate_without_thinking", "demo")["valid"]


def test_validation_while_every_slot_is_busy(judge: Judge) -> None:
    long = judge.call("chat", "recite", messages=[{"role": "user", "content": "[000]"}], parameters={"max_tokens": 400})
    validation = judge.call("validate", "recite", kind="llm")
    *chats, valid = judge.together(*[long] * 8, validation)
    assert all(chat["finish_reason"] == "length" for chat in chats), chats
    assert valid.get("valid"), valid
    assert valid["seconds"] < 60


@pytest.mark.parametrize("stream", [True, False])
def test_an_app_s_chat_with_everything_dify_may_add(judge: Judge, stream: bool) -> None:
    answer = judge.told(
        "chat",
        "demo",
        LLM | {"agent_thought_support": "supported"},
        messages=[
            {"role": "system", "content": ""},
            {"role": "user", "content": ["Hello"]},
            {"role": "assistant", "content": "<think>\nhm\n</think>Hello."},
            {"role": "user", "content": ["What is", " mutual TLS?"]},
            {"role": "user", "content": "What is mutual TLS?"},
        ],
        parameters={
            "temperature": 0.0,
            "top_p": 1.0,
            "frequency_penalty": 0.0,
            "presence_penalty": 0.0,
            "max_tokens": 160,
            "enable_thinking": False,
            "reasoning_format": "none",
            "response_format": "text",
        },
        stop=["Observation"],
        stream=stream,
    )
    assert answer["text"].startswith("Mutual TLS means")
    assert answer["guesses"] == 0


@pytest.mark.parametrize("more", [{}, {"stream_include_usage": "disabled"}, {"user_identity_support": "no_support"}])
def test_stream_and_blocking_say_the_same_and_count_the_same(judge: Judge, more: dict[str, str]) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "什么是双向 TLS？"}]
    stream, blocking = (
        judge.told("chat", "demo", LLM | more, messages=messages, parameters={"max_tokens": 60}, stream=stream)
        for stream in (True, False)
    )
    assert (stream["text"], stream["usage"]) == (blocking["text"], blocking["usage"])
    assert stream["guesses"] == blocking["guesses"] == 0
    assert "\ufffd" not in stream["text"]


def test_a_completion(judge: Judge) -> None:
    for stream in (True, False):
        answer = judge.chat("recite", "[000]", {"mode": "completion"}, parameters={"max_tokens": 9}, stream=stream)
        assert (answer["text"], answer["guesses"]) == (recited(0, 9), 0)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("stream", [True, False])
def test_max_tokens_under_both_names(judge: Judge, name: str, stream: bool) -> None:
    answer = judge.chat(
        "recite", "[000]", LLM | {"token_param_name": name}, parameters={"max_tokens": 7}, stream=stream
    )
    assert (answer["text"], answer["usage"][1]) == (recited(0, 7), 7)
    assert answer["finish_reason"] == ("length" if stream else None)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("model", "prompt", "stop", "text"),
    [
        ("recite", "[000]", ["[004][005][006]"], recited(0, 3)),
        ("recite", "A", ["é"], "BCDEFGHIJKLMNOPQRSTUVWXYZ"),
        ("recite", "A", ["never"], "BCDEFGHIJKLMNOPQRSTUVWXYZé"),
        ("actor", f"Find it {REACT}", ["Observation"], "Thought: I look it up.\nAction: search\n"),
    ],
)
def test_stop_words_do_not_show(
    judge: Judge, model: str, prompt: str, stop: list[str], text: str, stream: bool
) -> None:
    answer = judge.chat(model, prompt, stop=stop, parameters={"max_tokens": 100}, stream=stream)
    assert answer["text"] == text
    assert answer["finish_reason"] == ("stop" if stream else None)


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "mood": {"type": "string", "enum": ["good", "bad"]},
        "known": {"type": "string", "maxLength": 20},
        "score": {"type": "number", "minimum": 0, "maximum": 1},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 8}, "maxItems": 3},
    },
    "required": ["mood", "known", "score", "tags"],
    "additionalProperties": False,
}
SHAPES = {
    "of an LLM node": {"schema": SCHEMA, "name": "llm_response"},
    "strict": {"schema": SCHEMA, "name": "llm_response", "strict": True},
    "typed into the box": SCHEMA,
}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("shape", list(SHAPES))
def test_structured_output_is_valid(judge: Judge, shape: str, stream: bool) -> None:
    parameters = {"response_format": "json_schema", "json_schema": json.dumps(SHAPES[shape]), "max_tokens": 400}
    answer = judge.chat("demo", "How are you?", parameters=parameters, stream=stream)
    jsonschema.validate(json.loads(answer["text"]), SCHEMA)


@pytest.mark.parametrize("stream", [True, False])
def test_a_json_object(judge: Judge, stream: bool) -> None:
    parameters = {"response_format": "json_object", "max_tokens": 1500}
    answer = judge.chat("demo", "Say it in JSON.", parameters=parameters, stream=stream)
    assert isinstance(json.loads(answer["text"]), dict)


def test_a_stream_comes_piece_by_piece(judge: Judge) -> None:
    answers = [judge.chat("recite", "[000]", parameters={"max_tokens": 1000}) for _ in range(3)]
    assert {answer["text"] for answer in answers} == {recited(0, 1000)}
    assert max(answer["pieces"] for answer in answers) > 100
    # A busy machine may stand still before the first piece of one of them.
    assert min(answer["first_seconds"] / answer["seconds"] for answer in answers) < 1 / 3
