"""Calls in Python's words and in Gemma's."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.chat.literals import gemma_call, python_calls


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("f()", {}),
        ("[f(a=1, b=-2.5, c=1_000,)]", {"a": 1, "b": -2.5, "c": 1000}),
        ("[f(a='x', b=\"y\", c='''z'z''')]", {"a": "x", "b": "y", "c": "z'z"}),
        (r"[f(a='\n\x41\u00e9\'\q')]", {"a": "\nAé'\\q"}),
        ("[f(a=[1, (2, 3)], b={'k': None})]", {"a": [1, [2, 3]], "b": {"k": None}}),
        ("[f(a=True, b=false, c=null)]", {"a": True, "b": False, "c": None}),
    ],
)
def test_python(text: str, arguments: dict[str, Any]) -> None:
    assert python_calls(text) == [("f", arguments)]


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "[f]", "[f(1)]", "[f(a=g())]", "[f(a='x)]", "[f(a=1)] x", "[f(a=1e999)]", "[f(a=+)]"),
        r"[f(a='\ud800')]",
        "[f(a=" + "[" * 100_000,
        "[f(a=" + "-" * 100_000 + "1)]",
    ],
)
def test_what_is_no_python_call(text: str) -> None:
    assert python_calls(text) is None


def test_gemma() -> None:
    text = 'call:f{a:<|"|>x, "y"}<|"|>,b:[1,2.5],c:{d:true},e:word}'
    assert gemma_call(text) == ("f", {"a": 'x, "y"}', "b": [1, 2.5], "c": {"d": True}, "e": "word"})
    for bad in ("call:f", 'call:f{a:<|"|>x}', "f{}", "call:f{a}", "call:f{} x"):
        assert gemma_call(bad) is None
