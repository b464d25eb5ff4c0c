"""Conversations that a template cannot show as they are, told with what it can show: nothing is left out."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.engine.prompt.abilities import PLAIN, Abilities, StoppedError, abilities_of
from appliance.engine.prompt.mending import is_simple, mended, taught_format, with_names
from appliance.engine.prompt.template import ChatTemplate
from appliance.errors import RequestError
from appliance.types import ChatMessage, ChatPrompt, ToolCall, ToolFunction

USER, YES = ChatMessage(role="user", content="hi"), ChatMessage(role="assistant", content="yes")
CALLS = tuple(ToolCall(id=name, function=ToolFunction(name=name, arguments='{"a": 1}')) for name in ("f", "g"))
CALLING = ChatMessage(role="assistant", content="well", tool_calls=CALLS)
RESULTS = tuple(ChatMessage(role="tool", content=f"{name} says", tool_call_id=name) for name in ("f", "g"))
TOOL: dict[str, Any] = {"type": "function", "function": {"name": "f", "description": "größe"}}
# As strict as Gemma 2's and Mistral's.
STRICT = """{% for m in messages %}{% if m.role not in ['user', 'assistant'] %}{{ raise_exception('role') }}{% endif %}
{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('must alternate') }}{% endif %}
[{{ m.role }}] {{ m.content }}{% endfor %}"""
SHORT_IDS = """{% for m in messages %}{% for c in m.tool_calls %}{% if c.id|length != 9 %}{{ raise_exception('nine') }}
{% endif %}{{ c.id }}={{ c.function.arguments }}{% endfor %}{{ m.tool_call_id }}={{ m.content }}{% endfor %}"""


def prompt(*messages: ChatMessage, tools: tuple[dict[str, Any], ...] = ()) -> ChatPrompt:
    return ChatPrompt(messages=messages, tools=tools)


def shown(made: ChatPrompt) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in made.messages]


def template(source: str, **options: Any) -> ChatTemplate:
    return ChatTemplate(source, bos="", eos="", seconds_max=1, **options)


def test_simple_conversations() -> None:
    system = ChatMessage(role="system")
    assert is_simple(prompt(system, USER, YES, USER))
    assert is_simple(prompt(USER))
    for odd in ((USER, USER), (YES, USER), (USER, YES, system), (USER, CALLING)):
        assert not is_simple(prompt(*odd))
    assert not is_simple(prompt(USER, tools=(TOOL,)))


def test_results_get_the_names_of_their_calls() -> None:
    named = with_names((CALLING, *RESULTS, ChatMessage(role="tool", tool_call_id="?")))
    assert [message.name for message in named] == [None, "f", "g", None]


def test_what_can_be_shown_stays() -> None:
    made = prompt(USER, CALLING, *RESULTS, USER, USER, tools=(TOOL,))
    assert mended(made, Abilities()) == made


def test_everything_becomes_turns_of_two() -> None:
    system = ChatMessage(role="system", content="be nice")
    made = mended(prompt(system, USER, CALLING, *RESULTS, USER, tools=(TOOL,)), PLAIN)
    roles = [role for role, _ in shown(made)]
    assert roles == ["user", "assistant", "user"]
    first, called, last = (text for _, text in shown(made))
    assert first.startswith("be nice\n\nYou can call functions.")
    assert '"description": "größe"' in first
    assert first.endswith("\n\nhi")
    assert called == "\n".join(
        ["well", *(f'<tool_call>\n{{"name": "{name}", "arguments": {{"a": 1}}}}\n</tool_call>' for name in "fg")]
    )
    assert last.startswith("<tool_response>\nf says\n</tool_response>\n\n<tool_response>\ng says")
    assert made.tools == ()


def test_one_call_a_turn() -> None:
    made = mended(prompt(USER, CALLING, *RESULTS), Abilities(parallel_calls=False))
    assert shown(made) == [
        ("user", "hi"),
        ("assistant", "well"),
        ("tool", "f says"),
        ("assistant", ""),
        ("tool", "g says"),
    ]
    assert [[call.id for call in message.tool_calls] for message in made.messages] == [[], ["f"], [], ["g"], []]


def test_text_before_calls() -> None:
    made = mended(prompt(USER, CALLING), Abilities(spoken_calls=False))
    assert shown(made) == [("user", "hi"), ("assistant", "well"), ("assistant", "")]
    assert made.messages[2].tool_calls == CALLS


def test_results_without_a_call() -> None:
    made = mended(prompt(USER, RESULTS[0]), Abilities(orphans=False))
    assert shown(made)[1] == ("user", "<tool_response>\nf says\n</tool_response>")


def test_a_later_system_turn_is_the_users() -> None:
    later = ChatMessage(role="system", content="now in French")
    assert shown(mended(prompt(USER, YES, later, USER), Abilities(later_system=False)))[2] == ("user", "now in French")


def test_the_assistant_first() -> None:
    assert shown(mended(prompt(YES, USER), Abilities(assistant_first=False)))[0] == ("user", "")


def test_which_format_is_asked_for() -> None:
    text = shown(mended(prompt(USER, tools=(TOOL,)), Abilities(tools=False), "deepseek"))[0][1]
    assert "<｜tool▁call▁begin｜>NAME" in text
    assert (taught_format("deepseek"), taught_format("mistral")) == ("deepseek", "generic")


def test_a_strict_template_takes_every_conversation() -> None:
    system = ChatMessage(role="system", content="be nice")
    strict = template(STRICT)
    text = strict.render(prompt(system, USER, CALLING, *RESULTS, system, USER, tools=(TOOL,)))
    for words in ("be nice", "größe", "well", "f says", "g says"):
        assert words in text
    assert not strict.shows_tools
    assert template(STRICT).render(prompt(system, USER)).count("[user]") == 1


def test_ids_of_nine_characters() -> None:
    text = template(SHORT_IDS).render(prompt(USER, CALLING, *RESULTS))
    ids = [word.split("=")[0][-9:] for word in text.replace("\n", " ").split() if "=" in word and len(word) > 9]
    assert len(set(ids) - {""}) >= 2
    assert "f says" in text


def test_a_template_that_cannot_do_without_tools() -> None:
    source = "{% for t in tools %}{{ t }}{% endfor %}{{ messages[0].content }}"
    assert template("{{ messages[0].content }}{% if tools is none %}!{% endif %}").render(prompt(USER)) == "hi!"
    assert template(source).render(prompt(USER)) == "hi"


def test_what_is_always_refused_is_refused() -> None:
    with pytest.raises(RequestError, match="never"):
        template("{{ raise_exception('never') }}").render(prompt(USER))


def test_a_template_that_was_stopped_is_not_tried_again() -> None:
    tries: list[ChatPrompt] = []

    def render(made: ChatPrompt, _no_tools: bool) -> str:
        tries.append(made)
        raise StoppedError("template_error", "too long")

    with pytest.raises(StoppedError):
        abilities_of(render)
    assert len(tries) == 1


def test_what_an_assistant_thought() -> None:
    source = "{% for message in messages %}{{ message.reasoning_content }} {{ message.thinking }} {% endfor %}"
    thought = ChatMessage(role="assistant", reasoning_content="hm")
    assert template(source).render(prompt(thought, USER)) == "hm hm   "
