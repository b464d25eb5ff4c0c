"""Which texts a constraint takes, byte by byte, with a real vocabulary."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.engine.constraint import Compiler, Matcher
from appliance.engine.runner import load
from appliance.errors import RequestError
from appliance.types import Constraint
from tests.engine.conftest import random_spec
from tests.models.vocabulary import BOS, EOS, ID

THINKS = ("<think>", "</think>")


@pytest.fixture(scope="module")
def compiler(random_gguf: Path) -> Iterator[Compiler]:
    yield Compiler(load(random_spec(random_gguf), lambda fraction: None).vocabulary)


def tokens_of(text: str) -> list[int]:
    return [ID[f"<0x{byte:02X}>"] for byte in text.encode()]


def write(matcher: Matcher, text: str) -> Matcher:
    for token, byte in zip(tokens_of(text), text.encode(), strict=True):
        if matcher.failure is None and not matcher.complete:
            matcher.accept(token, bytes((byte,)), is_end=False)
    if matcher.failure is None and not matcher.complete:
        matcher.accept(EOS, b"", is_end=True)
    return matcher


def takes(compiler: Compiler, constraint: Constraint, text: str, prompt: str = "") -> bool:
    matcher = write(compiler.compile(constraint, [BOS, *tokens_of(prompt)]), text)
    return matcher.failure is None and matcher.complete


def schema(value: Any, **changes: Any) -> Constraint:
    return Constraint(kind="json_schema", text=json.dumps(value), **changes)


BOOL = schema({"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]})


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ('{"a":true}', True),
        ('{ "a": false }', True),
        ('{\n  "a": true\n}', True),
        ('{"a":true,"b":[1,{"c":null}]}', True),
        ('{"a":true,"b":1,"b":2}', False),
        ('{"a":"true"}', False),
        ('{"b":true}', False),
        (' {"a":true}', False),
        ('{\n\n\n"a":true}', False),
        ('{"a":tru', False),
        ("", False),
    ],
)
def test_a_schema(compiler: Compiler, text: str, taken: bool) -> None:
    assert takes(compiler, BOOL, text) is taken


@pytest.mark.parametrize(
    ("text", "prompt", "taken"),
    [
        ('{"a":true}', "", True),
        ('<think>Is it "}" or <b>?\n</think>\n\n{"a":true}', "", True),
        ('<think></think>{"a":true}', "", True),
        ("<think>never", "", False),
        ('hm</think>\n{"a":true}', "", False),
        ('hm</think>\n{"a":true}', "Q?<think>\n", True),
        ('</think>{"a":true}', "<think>", True),
        ('{"a":true}', "Q?<think>\n", False),
        ('hm</think>\n{"a":1}', "<think>", False),
        ('{"a":true,"b":"</think>"}', "", True),
        ('{"a":true,"b":"</think>","b":1}', "", False),
    ],
)
def test_reasoning_comes_before_it(compiler: Compiler, text: str, prompt: str, taken: bool) -> None:
    constraint = schema(json.loads(BOOL.text), thinks=THINKS)
    assert takes(compiler, constraint, text, prompt) is taken


def test_a_special_token_may_end_the_reasoning(compiler: Compiler) -> None:
    matcher = compiler.compile(schema(json.loads(BOOL.text), thinks=("<think>", "<s>")), tokens_of("<think>"))
    for byte in b"hm <s>":
        matcher.accept(ID[f"<0x{byte:02X}>"], bytes((byte,)), is_end=False)
    assert matcher.failure is None
    matcher.accept(BOS, b"<s>", is_end=False)
    assert write(matcher, '\n{"a":true}').failure is not None, "the text of the marker was thought, and is found first"
    matcher = compiler.compile(schema(json.loads(BOOL.text), thinks=("<think>", "<s>")), tokens_of("<think>"))
    matcher.accept(BOS, b"<s>", is_end=False)
    assert write(matcher, '\n{"a":true}').complete


@pytest.mark.parametrize(
    ("kind", "wanted", "text", "taken"),
    [
        ("regex", r"a/b\d+", "a/b12", True),
        ("regex", "a\nb", "a\nb", True),
        ("regex", r"a\/b", "a/b", True),
        ("regex", "a+", "aab", False),
        ("choice", '["yes", "no \\"\\n\\\\"]', 'no "\n\\', True),
        ("choice", '["yes"]', "ye", False),
        ("choice", '["a", "ab"]', "a", True),
        ("grammar", 'root ::= "a" [0-9]{2} | ws "é"\nws ::= [ \\t\\n]*', " \té", True),
        ("grammar", 'root ::= ["\\\\/bx]+', '"/\\', True),
        ("grammar", "start: /[0-9]+/ NAME\nNAME: /[a-z]{2}/", "12ab", True),
        ("grammar", "start: free\nfree[lazy]: /(?s:.*)<call>/", "anything<call>", True),
        ("grammar", 'start: "x" %json {"type": "integer", "maximum": 9}', "x7", True),
    ],
)
@pytest.mark.parametrize("thinks", [None, THINKS])
def test_other_kinds(
    compiler: Compiler, kind: Any, wanted: str, text: str, taken: bool, thinks: tuple[str, str] | None
) -> None:
    constraint = Constraint(kind=kind, text=wanted, thinks=thinks)
    assert takes(compiler, constraint, text) is taken
    if thinks is not None:
        assert takes(compiler, constraint, f"<think>so</think>\n{text}") is taken


def test_what_is_compiled_is_kept_and_shared_by_nobody(compiler: Compiler) -> None:
    first, second = compiler.compile(BOOL, []), compiler.compile(BOOL, [])
    assert write(first, '{"a":true}').complete
    assert not second.complete and write(second, '{"a":false}').complete


@pytest.mark.parametrize(
    ("constraint", "place"),
    [
        (
            schema({"properties": {"a": {"items": {"uniqueItems": True}}}}),
            "response_format.properties.a.items.uniqueItems",
        ),
        (schema({"type": "strng"}), "response_format"),
        (schema([]), "response_format"),
        (Constraint(kind="choice", text="[]", param="choice"), "choice"),
        (Constraint(kind="grammar", text="root ::= (", param="grammar"), "grammar"),
        (Constraint(kind="grammar", text='start: %json {"not": {}}', param="grammar"), "grammar"),
        (Constraint(kind="regex", text="x" * 70_000, param="regex"), "regex"),
        (schema({"description": "x" * 300_000}), "response_format"),
    ],
)
def test_refusals_name_the_place(compiler: Compiler, constraint: Constraint, place: str) -> None:
    with pytest.raises(RequestError) as caught:
        compiler.compile(constraint, [])
    assert (caught.value.code, caught.value.param) == ("invalid_request", place)
    assert len(caught.value.message) < 600
