"""What chat templates may do, and that none of them can do harm."""

from __future__ import annotations

import time
from typing import Any

import pytest

from appliance.engine.prompt.template import SOURCE_BYTES_MAX, ChatTemplate
from appliance.errors import LoadError, RequestError
from appliance.types import ChatMessage, ChatPrompt, ToolCall, ToolFunction
from tests.models.hostile import HOSTILE_TEMPLATES

# What a hostile one may take, and one that is well, on a machine that does much else.
HOSTILE_SECONDS_MAX = 0.5
SECONDS_MAX = 30.0


def template(source: str, seconds_max: float = SECONDS_MAX) -> ChatTemplate:
    return ChatTemplate(source, bos="<s>", eos="</s>", seconds_max=seconds_max)


HI = ChatPrompt(messages=(ChatMessage(role="user", content="hi"),))


def rendered(source: str, *messages: ChatMessage, **fields: Any) -> str:
    return template(source).render(ChatPrompt(messages=messages or HI.messages, **fields))


def test_chatml() -> None:
    source = (
        "{% for m in messages %}\n"
        "{{ '<|im_start|>' + m['role'] + '\n' + m.content + '<|im_end|>' }}\n"
        "{% endfor %}\n"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    text = rendered(source, ChatMessage(role="system"), ChatMessage(role="user", content="你好"))
    assert text == ("<|im_start|>system\n<|im_end|>\n<|im_start|>user\n你好<|im_end|>\n<|im_start|>assistant\n")


def test_special_tokens_and_template_kwargs() -> None:
    source = "{{ bos_token }}{{ enable_thinking }}{{ eos_token }}"
    assert rendered(source, template_kwargs={"enable_thinking": False, "bos_token": "x"}) == "<s>False</s>"


def test_tools_are_none_when_there_are_none() -> None:
    source = "{{ tools is none }} {% if tools %}{{ tools|tojson }}{% endif %}"
    assert rendered(source) == "True "
    assert rendered(source, tools=({"name": "größe <b>"},)) == 'False [{"name": "größe <b>"}]'


def test_arguments_can_be_appended_as_their_text() -> None:
    call = ToolCall(function=ToolFunction(name="f", arguments='{"a":1}'))
    source = (
        "{% set a = messages[0].tool_calls[0].function.arguments %}{{ 'x' + a + 'y' }} {{ a ~ '' }} {{ a }} {{ a.a }}"
    )
    text = rendered(source, ChatMessage(role="assistant", tool_calls=(call,)))
    assert text == 'x{"a":1}y {"a":1} {"a":1} 1'


def test_tool_calls_come_as_objects_where_they_are_json() -> None:
    call = ToolCall(id="1", function=ToolFunction(name="f", arguments='{"a": [1, "é"]}'))
    broken = ToolCall(function=ToolFunction(name="g", arguments="{not json"))
    source = (
        "{% for m in messages %}{% for c in m.tool_calls %}"
        "{{ c.function.name }}={{ c.function.arguments | tojson }};{{ c.id is defined }} "
        "{% endfor %}{% endfor %}"
    )
    message = ChatMessage(role="assistant", tool_calls=(call, broken))
    assert rendered(source, message) == 'f={"a": [1, "é"]};True g="{not json";False '


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{% for i in 'ab-c' %}{% if i == '-' %}{% continue %}{% endif %}{{ i }}{% endfor %}", "abc"),
        ("{% for i in range(9) %}{% if i == 4 %}{% break %}{% endif %}{{ i }}{% endfor %}", "0123"),
        ("{{ 'a,b'.split(',')[1].strip().upper() }}", "B"),
        ("{{ messages|selectattr('role', 'equalto', 'user')|list|length }}", "1"),
        ("{{ messages|map(attribute='content')|join('/') }}", "hi"),
        ("{% set ns = namespace(found=false) %}{% set ns.found = true %}{{ ns.found }}", "True"),
        ("{{ '%s-%03d' % ('a', 7) }} {{ '{:>4}|{}'.format(1, 2) }}", "a-007    1|2"),
        ("{{ messages[::-1][0].content ~ 1 ~ none }}", "hi1None"),
        ("{{ {'a': 1, 'b': [2]}|tojson }} {{ {'b': 1}.items()|list }}", "{\"a\": 1, \"b\": [2]} [('b', 1)]"),
        ("{{ [1, 2] + [3] }} {{ (1, 2)|length }} {% for a, b in [(1, 2)] %}{{ a + b }}{% endfor %}", "[1, 2, 3] 2 3"),
        ("{% macro f(x, y=2) %}{{ x }}{{ y }}{% endmacro %}{{ f(1) }} {{ dict(a=1).a }}", "12 1"),
        ("{{ 7 // 2 * 2 ** 3 % 5 }} {{ 7 / 2 - 1 }}", "4 2.5"),
        ("{{ 'a\nb'|indent(2) }} {{ ' x '|trim }} {{ '5'|int + 1 }} {{ 'abab'|replace('a', 'c') }}", "a\n  b x 6 cbcb"),
        ("{{ 'x' if messages[0].name is not defined }} {{ messages[0]['tool_calls'] is defined }}", "x False"),
        ("{% if false %}{{ 1|center(9) }}{% endif %}{{ ('f' * 1000000)|int(base=16) // 7 }}", "0"),
        ("{% generation %}{{ messages[0].content }}{% endgeneration %}", "hi"),
        ("{{ strftime_now('%Y')|length }} {{ loop is defined }}", "4 False"),
    ],
)  # fmt: skip
def test_what_templates_use(source: str, text: str) -> None:
    assert rendered(source) == text


@pytest.mark.parametrize("name", list(HOSTILE_TEMPLATES))
def test_hostile_templates_are_stopped_in_time(name: str) -> None:
    began = time.monotonic()
    with pytest.raises(RequestError) as caught:
        template(HOSTILE_TEMPLATES[name], HOSTILE_SECONDS_MAX).render(HI)
    assert caught.value.code == "template_error"
    assert caught.value.param == "messages"
    assert len(caught.value.message) <= 500
    assert time.monotonic() - began < SECONDS_MAX


def test_a_refusal_carries_its_reason() -> None:
    with pytest.raises(RequestError, match="refuses these: roles must alternate"):
        rendered(HOSTILE_TEMPLATES["refusal"])


def test_hostile_arguments_are_stopped_too() -> None:
    nested: list[Any] = []
    for _ in range(100):
        nested = [nested, nested]
    with pytest.raises(RequestError, match="more than"):
        rendered("{{ x|tojson }}", template_kwargs={"x": nested})


def test_a_template_works_again_after_it_was_stopped() -> None:
    both = template(
        "{% if stall %}{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}{% endif %}ok",
        # Enough for `ok` too.
        seconds_max=2.0,
    )
    with pytest.raises(RequestError, match="ran for more than"):
        both.render(ChatPrompt(messages=(), template_kwargs={"stall": True}))
    assert both.render(ChatPrompt(messages=(), template_kwargs={"stall": False})) == "ok"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("x" * (SOURCE_BYTES_MAX + 1), "more than the limit"),
        ("a\n{% if %}", "does not compile: line 2"),
        ("{{ " + "(" * 5000 + ")" * 5000 + " }}", "does not compile"),
        ("{{ '" + "a" * 1000 + "'|no_such_filter }}", "no_such_filter"),
    ],
)
def test_templates_that_cannot_be_used(source: str, reason: str) -> None:
    with pytest.raises(LoadError, match=reason):
        template(source)
