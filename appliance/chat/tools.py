"""The tools of one request, as far as reading calls needs them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw

from appliance.chat.parts import Call

_object: Final = msgspec.json.Decoder(dict[str, Raw])
# Models write line ends into strings as they are.
_lenient: Final = json.JSONDecoder(
    strict=False, parse_constant=lambda name: _no_constant(name), parse_float=lambda text: _finite(text)
)
_NAMES: Final = ("name", "tool_name", "function")
_ARGUMENTS: Final = ("arguments", "parameters", "args")
# What may stand for no arguments at all.
_NOTHING: Final = frozenset({"", "null", '""'})
_PYTHONS: Final = {"True": "true", "False": "false", "None": "null"}


class Tools:
    """Names, and the JSON schema of each one's arguments. Falsy without any."""

    __slots__ = ("_schemas",)

    def __init__(self, tools: Iterable[Mapping[str, Any]] = ()) -> None:
        """tools: as the request has them; entries that are no functions are left out."""
        self._schemas: dict[str, Any] = {}
        for tool in tools:
            function = tool.get("function", tool)
            if isinstance(function, Mapping) and isinstance(name := function.get("name"), str):
                self._schemas[name] = function.get("parameters")

    def __len__(self) -> int:
        return len(self._schemas)

    def __contains__(self, name: object) -> bool:
        return name in self._schemas

    def call(self, name: str, arguments: str) -> Call | None:
        """A call; None where there is no such tool, or `arguments` is no JSON object."""
        text = object_text(arguments)
        return Call(name, text) if name in self._schemas and text is not None else None

    def call_by_texts(self, name: str, arguments: Iterable[tuple[str, str]]) -> Call | None:
        """A call whose arguments have no types of their own: the tool's schema says what a text stands for."""
        if name not in self._schemas:
            return None
        values = {key: self._value(name, key, text) for key, text in arguments}
        return Call(name, json_text(values))

    def calls_in(self, value: str) -> list[Call] | None:
        """What a JSON object or list says of calls: `{"name": …, "arguments": …}`, or one of its relatives."""
        try:
            entries = _lenient.decode(value.strip())
        except (ValueError, RecursionError):
            return None
        calls = [self._call_in(entry) for entry in (entries if isinstance(entries, list) else [entries])]
        known = [call for call in calls if call is not None]
        return known if known and len(known) == len(calls) else None

    def _call_in(self, entry: Any) -> Call | None:
        if not isinstance(entry, dict):
            return None
        for wrapper in ("function", "tool_call"):
            if isinstance(entry.get(wrapper), dict):
                entry = entry[wrapper]
        name = next((entry[key] for key in _NAMES if isinstance(entry.get(key), str)), None)
        if name is None:
            return self._single(entry)
        arguments: Any = next((entry[key] for key in _ARGUMENTS if key in entry), {})
        return self.call(name, json_text(arguments))

    def _single(self, entry: dict[str, Any]) -> Call | None:
        """`{name: arguments}`."""
        if len(entry) != 1:
            return None
        ((name, arguments),) = entry.items()
        return self.call(name, json_text(arguments))

    def _value(self, name: str, key: str, text: str) -> object:
        schema = self._schemas[name]
        properties = schema.get("properties") if isinstance(schema, Mapping) else None
        wanted = properties.get(key) if isinstance(properties, Mapping) else None
        types = wanted.get("type") if isinstance(wanted, Mapping) else None
        types = types if isinstance(types, list) else [types]
        if "string" in types and not (text.strip() == "null" and "null" in types):
            return text
        if types == [None] and not (isinstance(wanted, Mapping) and not wanted.keys().isdisjoint(("anyOf", "oneOf"))):
            return text
        try:
            return _lenient.decode(_PYTHONS.get(text.strip(), text.strip()))
        except (ValueError, RecursionError):
            return text


def object_text(text: str) -> str | None:
    """The text of a JSON object, as the model wrote it where that is JSON, else mended; None where it is no object."""
    text = text.strip()
    if text in _NOTHING:
        return "{}"
    try:
        _object.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        pass
    else:
        return text
    try:
        value = _lenient.decode(text)
        if isinstance(value, str):
            value = _lenient.decode(value)
    except (ValueError, RecursionError):
        return None
    return json_text(value) if isinstance(value, dict) else None


def json_text(value: object) -> str:
    """A value as JSON; escaped only where it would be no valid Unicode else."""
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isascii() or _encodes(text) else json.dumps(value)


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _finite(text: str) -> float:
    """What is too large for a float could not be written as JSON again."""
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text} is out of range")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
