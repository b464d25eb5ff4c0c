"""How answers are to be read: by the template, by models.yaml, by how the prompt ends."""

from __future__ import annotations

from collections.abc import Collection
from zlib import crc32

from appliance.engine.prompt.answers import Answers
from appliance.types import AnswerFormat, CallChoice, ChatMessage, ChatPrompt, ModelSpec, Reading

SPEC = ModelSpec(id="m", path="/m.gguf")
USER = ChatMessage(role="user", content="hi")


class Vocabulary:
    """Every text is one control token."""

    def control_tokens(self, texts: Collection[str]) -> dict[int, bytes]:
        return {crc32(text.encode()): text.encode() for text in texts}

    def tokenize(self, text: str, reading: Reading) -> list[int]:
        assert not reading.add_special
        return [len(text)]


def answers(template: str, spec: ModelSpec = SPEC) -> Answers:
    return Answers(template, spec, Vocabulary())


def test_the_template_says_it() -> None:
    made = answers("[TOOL_CALLS] [THINK]")
    assert made.format == AnswerFormat(tools="mistral", reasoning="mistral")
    assert made.closing == (len("\n[/THINK]\n\n"),)


def test_models_yaml_says_it() -> None:
    spec = ModelSpec(id="m", path="/m.gguf", tool_format="hermes", reasoning_format="none")
    made = answers("[TOOL_CALLS]", spec)
    assert made.format == AnswerFormat(tools="hermes", reasoning="none")
    assert made.closing == ()
    assert made.format_of("x", shows_tools=False).tools == "hermes"


def test_the_prompt_says_it() -> None:
    made = answers("<tool_call> <think>")
    assert made.format_of("<think>\n", shows_tools=True) == AnswerFormat(
        tools="hermes", reasoning="think", thinking=True
    )
    assert not made.format_of("assistant\n", shows_tools=True).thinking
    assert made.format_of("", shows_tools=False).tools == "generic"


def test_what_must_come_out_as_text() -> None:
    made = answers("[TOOL_CALLS]")
    assert set(made.spoken(ChatPrompt(messages=(USER,))).values()) == {b"<think>", b"</think>"}
    assert b"[TOOL_CALLS]" in made.spoken(ChatPrompt(messages=(USER,), tools=({},))).values()


def test_what_keeps_an_answer_to_calls() -> None:
    made = answers("[TOOL_CALLS]")
    tools = [{"function": {"name": "f"}}]
    forced, spoken = made.forced(AnswerFormat(tools="mistral"), tools, CallChoice())
    marker = crc32(b"[TOOL_CALLS]")
    assert forced.tools == "mistral" and f"<[{marker}]>" in forced.grammar
    assert spoken == {marker: b"[TOOL_CALLS]"}


def test_calls_that_are_hard_to_force_come_in_another_format() -> None:
    forced, spoken = answers("").forced(AnswerFormat(tools="pythonic"), [{"name": "f"}], CallChoice(only=("f",)))
    assert forced.tools == "hermes"
    assert set(spoken.values()) == {b"<tool_call>", b"</tool_call>"}
