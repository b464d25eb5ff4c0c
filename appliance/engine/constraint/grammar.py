"""From a request's constraint to llguidance's grammar. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final, assert_never

import msgspec
from llguidance.gbnf_to_lark import gbnf_to_lark, is_lark_syntax

from appliance.engine.constraint.bounds import (
    GRAMMAR_BYTES_MAX,
    RULES_MAX,
    SCHEMA_BYTES_MAX,
    check_pattern,
    check_schema,
)
from appliance.engine.constraint.terminals import check_terminals
from appliance.errors import RequestError
from appliance.types import CHOICE_TEXTS_MAX, Constraint

# As llama.cpp's: models indent, and one that is lost would write white space until its last token.
_WHITESPACE: Final = r" |\n{1,2}[ \t]{0,20}"
_SETTINGS: Final = {"whitespace_pattern": _WHITESPACE, "lenient": False, "coerce_one_of": False}
_EMBEDDED_SCHEMA: Final = re.compile(r"%json\s*(?=\{)")
_decoder: Final = json.JSONDecoder()

Grammar = dict[str, Any]


def grammar_of(constraint: Constraint, *, thinking: bool, special: Mapping[str, int]) -> str:
    """The text llguidance takes.

    thinking: the prompt ends inside of the reasoning, whose end `constraint.thinks` says. special: tokens that are
    written so and are no text. Raises RequestError.
    """
    answer = _answer(constraint)
    if constraint.thinks is None:
        return json.dumps({"grammars": [{"name": "answer", **answer}]})
    outer = _after_thoughts(*constraint.thinks, thinking, special)
    return json.dumps({"grammars": [{"name": "whole", "lark_grammar": outer}, {"name": "answer", **answer}]})


def schema_of(constraint: Constraint) -> Any:
    """The schema itself. Raises RequestError where it is no JSON or too large."""
    _check_size(constraint, SCHEMA_BYTES_MAX)
    try:
        return msgspec.json.decode(constraint.text.encode())
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise _refused(constraint, f"no valid JSON: {error}") from None


def _answer(constraint: Constraint) -> Grammar:
    match constraint.kind:
        case "json_schema":
            schema = schema_of(constraint)
            if not isinstance(schema, dict | bool):
                raise _refused(constraint, "a schema is an object or a boolean")
            check_schema(schema, constraint.param)
            schema = {} if schema is True else {"not": {}} if schema is False else schema
            return {"json_schema": schema | {"x-guidance": _SETTINGS}}
        case "regex":
            _check_size(constraint, GRAMMAR_BYTES_MAX)
            check_pattern(constraint.text, constraint.param)
            return {"lark_grammar": f"start: /{_slashes_escaped(constraint.text)}/"}
        case "choice":
            return {"lark_grammar": f"start: {' | '.join(map(json.dumps, _choices(constraint)))}"}
        case "grammar":
            return {"lark_grammar": _lark(constraint)}
        case _:
            assert_never(constraint.kind)


def _choices(constraint: Constraint) -> list[str]:
    _check_size(constraint, GRAMMAR_BYTES_MAX)
    try:
        choices = msgspec.json.decode(constraint.text, type=list[str])
    except msgspec.DecodeError as error:
        raise _refused(constraint, f"no list of texts: {error}") from None
    if not 0 < len(choices) <= CHOICE_TEXTS_MAX:
        raise _refused(constraint, f"1 to {CHOICE_TEXTS_MAX} texts")
    return choices


def _lark(constraint: Constraint) -> str:
    """Lark as it is, GBNF translated."""
    text = constraint.text
    _check_size(constraint, SCHEMA_BYTES_MAX)
    if not is_lark_syntax(text):
        _check_size(constraint, GRAMMAR_BYTES_MAX)
        if text.count("::=") > RULES_MAX:
            raise _refused(constraint, f"more than {RULES_MAX} rules")
        try:
            text = gbnf_to_lark(text)
        except RecursionError:
            raise _refused(constraint, "nested too deep") from None
        except Exception as error:  # the translator raises plain Exceptions, and IndexError at a sudden end
            raise _refused(constraint, f"neither GBNF nor Lark: {str(error)[:200]}") from None
    whole, rest, position = "", "", 0
    while (match := _EMBEDDED_SCHEMA.search(text, position)) is not None:
        try:
            schema, end = _decoder.raw_decode(text, match.end())
        except (ValueError, RecursionError):
            raise _refused(constraint, "a schema in it is no valid JSON") from None
        check_schema(schema, constraint.param)
        between = text[position : match.start()]
        whole += f"{between}%json {json.dumps(schema | {'x-guidance': _SETTINGS})}"
        rest += between
        position = end
    check_terminals(rest + text[position:], constraint.param)
    return whole + text[position:]


def _after_thoughts(opening: str, closing: str, thinking: bool, special: Mapping[str, int]) -> str:
    """What the model thinks is its own business, up to the first `closing`; the answer begins after white space."""
    begin = f"<[{special[opening]}]>" if opening in special else json.dumps(opening)
    if closing in special:
        thoughts = f"thoughts: /(?s:.*)/ <[{special[closing]}]>"
    else:
        thoughts = f"thoughts[lazy]: /(?s:.*){_slashes_escaped(re.escape(closing))}/"
    start = "thoughts SPACE @answer" if thinking else f"({begin} thoughts SPACE)? @answer"
    return f"start: {start}\n{thoughts}\nSPACE: /[ \\t\\r\\n]{{0,8}}/\n"


def _slashes_escaped(pattern: str) -> str:
    """A regular expression as Lark takes it between slashes."""
    return re.sub(
        r"\\.|/|\n", lambda match: {"/": r"\/", "\n": r"\n"}.get(match[0], match[0]), pattern, flags=re.DOTALL
    )


def _check_size(constraint: Constraint, bytes_max: int) -> None:
    if len(constraint.text.encode(errors="replace")) > bytes_max:
        raise _refused(constraint, f"more than {bytes_max // 1024} KiB")


def _refused(constraint: Constraint, reason: str) -> RequestError:
    return RequestError("invalid_request", f"{constraint.param}: {reason}", param=constraint.param)
