"""What a request's body asks its answer to be: OpenAI's `response_format` and the names of llama-server and vLLM.

The schema itself is not looked into here: it is hostile input, and the worker's business.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from appliance.api.openai_schema import CompletionFields, ResponseFormat, StructuredOutputs
from appliance.errors import RequestError
from appliance.types import Constraint

_ANY_OBJECT: Final = '{"type":"object"}'
_NOTHING: Final = (b"", b"null")


class _Wrapped(Struct, frozen=True):
    """`json_schema` as OpenAI has it, and as Dify sends it. A schema of its own has no keyword `schema`."""

    schema: Raw | UnsetType = UNSET


_wrapped: Final = msgspec.json.Decoder(_Wrapped)


def constraint_of(body: CompletionFields) -> Constraint | None:
    """The one constraint that a body asks for. Raises RequestError where it asks for several, or for none we know."""
    found = [
        *_from_format(body.response_format),
        *_from_schema("json_schema", body.json_schema),
        *_from_schema("guided_json", body.guided_json),
        *_from_text("grammar", "grammar", body.grammar),
        *_from_text("grammar", "guided_grammar", body.guided_grammar),
        *_from_text("regex", "regex", body.regex),
        *_from_text("regex", "guided_regex", body.guided_regex),
        *_from_choice("choice", body.choice),
        *_from_choice("guided_choice", body.guided_choice),
        *_from_structured(body.structured_outputs),
    ]
    if len(found) > 1:
        names = ", ".join(constraint.param for constraint in found)
        raise RequestError(
            "invalid_request", f"{names}: an answer can be kept to one of them; send one", param=found[1].param
        )
    return found[0] if found else None


def _from_format(asked: ResponseFormat | None) -> list[Constraint]:
    if asked is None or asked.type == "text":
        return []
    if asked.type == "json_object":
        # llama-server's: with a schema of its own.
        return _from_schema("response_format.schema", asked.schema) or [_json("response_format")]
    if asked.type == "json_schema":
        place = "response_format.json_schema"
        raw, place = (
            (asked.json_schema, place) if _said(asked.json_schema) else (asked.schema, "response_format.schema")
        )
        found = _from_schema(place, raw)
        if not found:
            message = "response_format: `json_schema` must hold the schema"
            raise RequestError("invalid_request", message, param="response_format.json_schema")
        return found
    message = f"response_format.type: {asked.type[:64]!r} is none of text, json_object, json_schema"
    raise RequestError("invalid_request", message, param="response_format.type")


def _from_structured(asked: StructuredOutputs | None) -> list[Constraint]:
    """vLLM's `structured_outputs`."""
    if asked is None:
        return []
    name = "structured_outputs"
    found = [
        *_from_schema(f"{name}.json", asked.json),
        *_from_text("regex", f"{name}.regex", asked.regex),
        *_from_choice(f"{name}.choice", asked.choice),
        *_from_text("grammar", f"{name}.grammar", asked.grammar),
    ]
    return [*found, _json(f"{name}.json_object")] if asked.json_object else found


def _from_schema(param: str, raw: Raw) -> list[Constraint]:
    """A schema, bare or wrapped. vLLM's clients may send its JSON as a text."""
    if not _said(raw):
        return []
    text = bytes(raw)
    try:
        if text.startswith(b'"'):
            text = msgspec.json.decode(text, type=str).encode()
        if text.lstrip().startswith(b"{") and isinstance(schema := _wrapped.decode(text).schema, Raw):
            text, param = bytes(schema), f"{param}.schema"
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise RequestError("invalid_request", f"{param}: no JSON schema: {error}", param=param) from None
    return [Constraint(kind="json_schema", text=text.decode(errors="replace"), param=param)]


def _from_text(kind: Literal["grammar", "regex"], param: str, text: str | None) -> list[Constraint]:
    if not text:
        return []
    return [Constraint(kind=kind, text=text, param=param)]


def _from_choice(param: str, texts: list[str] | None) -> list[Constraint]:
    if texts is None:
        return []
    return [Constraint(kind="choice", text=msgspec.json.encode(texts).decode(), param=param)]


def _json(param: str) -> Constraint:
    return Constraint(kind="json_schema", text=_ANY_OBJECT, param=param)


def _said(raw: Raw) -> bool:
    return bytes(raw) not in _NOTHING
