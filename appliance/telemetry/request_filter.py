"""The filter language of the request log. Pure: the same filter reads a record in memory and makes the log's SQL.

    st>=400 model:qwen key:ci-bot ip:10.20.0.0/16 dur>10 ttft>500ms since:15m !path:/v1/models "rate limit"

Words are joined by AND; `!` before one negates it; `a|b` in a value is either. `:` is "contains" for names and texts,
without regard to case, and "is" for everything else; `=` is "is". A word without a field is looked for in model, key,
path, outcome, error and finish, and as the beginning of an id; one that is an address or a network is `ip:`. Quotes
keep spaces together; in them `\"` is a quote. The value `-` is "has none". `since` and `until` are of the arrival.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, Protocol, get_args

from appliance.errors import ApplianceError
from appliance.telemetry.request_columns import IpNetwork, micros, packed_address, packed_range
from appliance.telemetry.request_record import Outcome, RequestRecord
from appliance.types import FinishReason

FILTER_CHARS_MAX: Final = 1_000
TERMS_MAX: Final = 32
VALUES_MAX: Final = 32
_NUMBER_MAX: Final = 1e12

Operator = Literal[":", "=", ">", ">=", "<", "<="]
Parameter = str | int | bytes

_QUOTED: Final = r'"(?:[^"\\]|\\.)*"'
_WORD: Final = re.compile(rf'(?:{_QUOTED}|[^\s"])+|"')
_TERM: Final = re.compile(r"([A-Za-z_]+)(>=|<=|!=|[:=><])(.*)", re.DOTALL)
_VALUE: Final = re.compile(rf'(?:{_QUOTED}|[^|"])+')
_NUMBER: Final = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)([A-Za-z]*)")
_SECONDS: Final[Mapping[str, float]] = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_AGO: Final[Mapping[str, float]] = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604_800.0}
_COUNTS: Final[Mapping[str, float]] = {"": 1.0, "k": 1000.0}


class FilterError(ApplianceError):
    """A filter cannot be read. start, end: of the word at fault, in characters of the filter."""

    def __init__(self, message: str, start: int, end: int) -> None:
        super().__init__(message)
        self.start = start
        self.end = end


@dataclass(frozen=True, slots=True)
class Condition:
    """One term in SQL, or part of one.

    indexed: conditions on one indexed column each, one of which holds wherever this does; empty where not all of it has
    an index.
    """

    sql: str
    parameters: tuple[Parameter, ...]
    indexed: tuple[Condition, ...] = ()


def _on_index(sql: str, *parameters: Parameter) -> Condition:
    return Condition(sql, parameters, (Condition(sql, parameters),))


class _Test(Protocol):
    """What one value of a term asks. now: UTC seconds since 1970."""

    def matches(self, record: RequestRecord, now: float) -> bool: ...
    def condition(self, now: float) -> Condition: ...


@dataclass(frozen=True, slots=True)
class _Term:
    tests: tuple[_Test, ...]
    negated: bool

    def matches(self, record: RequestRecord, now: float) -> bool:
        return any(test.matches(record, now) for test in self.tests) is not self.negated

    def condition(self, now: float) -> Condition:
        parts = [test.condition(now) for test in self.tests]
        either = " OR ".join(part.sql for part in parts)
        return Condition(
            # What is unknown is not so: its negation holds.
            f"({either}) IS NOT TRUE" if self.negated else f"({either})",
            tuple(value for part in parts for value in part.parameters),
            tuple(one for part in parts for one in part.indexed)
            if not self.negated and all(part.indexed for part in parts)
            else (),
        )


@dataclass(frozen=True, slots=True)
class RequestFilter:
    """A filter that has been read; without terms it takes every record. text: as it was given."""

    text: str = ""
    terms: tuple[_Term, ...] = ()

    def matches(self, record: RequestRecord, now: float) -> bool:
        """Whether it takes a record. now: UTC seconds since 1970, which `since:15m` is counted back from."""
        return all(term.matches(record, now) for term in self.terms)

    def conditions(self, now: float) -> tuple[Condition, ...]:
        """Term by term, all of which must hold. Over the tables of `request_table`."""
        return tuple(term.condition(now) for term in self.terms)

    def where(self, now: float) -> tuple[str, tuple[Parameter, ...]]:
        """The whole of it, for a WHERE: text that holds nothing of what was typed, and its parameters."""
        conditions = self.conditions(now)
        return (
            " AND ".join(one.sql for one in conditions) or "TRUE",
            tuple(value for one in conditions for value in one.parameters),
        )


def parse(text: str) -> RequestFilter:
    """Reads a filter. Raises FilterError, which says which word is wrong and what is expected."""
    if len(text) > FILTER_CHARS_MAX:
        raise FilterError(f"a filter has at most {FILTER_CHARS_MAX} characters", FILTER_CHARS_MAX, len(text))
    terms, words = [], list(_WORD.finditer(text))
    if (unclosed := next((word.start() for word in words if word[0] == '"'), None)) is not None:
        raise FilterError(f"{_shown(text[unclosed:])}: the quote has no end", unclosed, len(text))
    for number, word in enumerate(words):
        if number == TERMS_MAX:
            raise FilterError(f"a filter has at most {TERMS_MAX} words", word.start(), len(text))
        try:
            terms.append(_term(word[0]))
        except _WrongWord as error:
            raise FilterError(f"{_shown(word[0])}: {error}", *word.span()) from None
    return RequestFilter(text, tuple(terms))


class _WrongWord(Exception):
    """What is wrong with a word, and what is expected."""


def _term(word: str) -> _Term:
    negated = word.startswith("!")
    body = word[1:] if negated else word
    if not body:
        raise _WrongWord("a word is missing after `!`; write !key:ci-bot")
    if (network := _network(body)) is not None:
        return _Term((_Address(network),), negated)
    found = _TERM.fullmatch(body)
    if found is None:
        return _Term(tuple(test for value in _values(body) for test in _anywhere(value)), negated)
    name, operator, rest = found[1].lower(), found[2], found[3]
    field = _FIELDS.get(name)
    if field is None:
        near = difflib.get_close_matches(name, _FIELDS, n=1)
        known = f"did you mean {near[0]}?" if near else f"known: {', '.join(_FIELDS)}"
        raise _WrongWord(f'{name} is no field; {known} To look for the text itself, quote it: "{body[:40]}"')
    if operator == "!=":
        raise _WrongWord(f"write !{name}:{rest[:40]}")
    if not rest:
        raise _WrongWord(f"a value is missing; expected {field.expected}")
    if operator not in field.operators:
        raise _WrongWord(f"{name} is not compared with {operator}; expected {field.expected}")
    values = _values(rest)
    if len(values) > 1 and operator not in (":", "="):
        raise _WrongWord(f"{operator} takes one value; expected {field.expected}")
    operator_: Operator = operator  # type: ignore[assignment]
    return _Term(tuple(field.read(operator_, value) for value in values), negated)


def _values(text: str) -> list[str]:
    """Of `a|"b c"|d`."""
    values = [_unquoted(part) for part in _VALUE.findall(text)]
    if not all(values) or len(values) != len(re.sub(_QUOTED, "", text).split("|")):
        raise _WrongWord("a value is missing beside `|`")
    if len(values) > VALUES_MAX:
        raise _WrongWord(f"at most {VALUES_MAX} values")
    return values


def _unquoted(text: str) -> str:
    """With the quotes of its quoted parts taken off."""
    bare = re.sub(_QUOTED, lambda match: re.sub(r"\\(.)", r"\1", match[0][1:-1]), text)
    if not bare:
        raise _WrongWord("the text is empty")
    return bare


def _shown(word: str) -> str:
    return word if len(word) <= 40 else word[:39] + "…"


# What a term can ask. Names are in a table of their own, and columns have their numbers.


def _lower(text: str) -> str:
    """As SQLite's lower(): ASCII alone."""
    return text.lower() if text.isascii() else re.sub("[A-Z]+", lambda match: match[0].lower(), text)


@dataclass(frozen=True, slots=True)
class _Name:
    """One of some named columns. wanted: in lower case. whole: it is the name, else the name contains it."""

    columns: tuple[str, ...]
    wanted: str
    whole: bool

    def matches(self, record: RequestRecord, now: float) -> bool:
        for column in self.columns:
            name = _NAMES[column](record)
            if name is not None and (self.wanted == _lower(name) if self.whole else self.wanted in _lower(name)):
                return True
        return False

    def condition(self, now: float) -> Condition:
        test = "lower(text) = ?" if self.whole else "instr(lower(text), ?) > 0"
        each = [f"{column} IN (SELECT id FROM names WHERE {test})" for column in self.columns]
        indexed = tuple(Condition(sql, (self.wanted,)) for sql in each)
        return Condition(" OR ".join(each), (self.wanted,) * len(self.columns), indexed)


@dataclass(frozen=True, slots=True)
class _NoName:
    """None of some named columns has one."""

    columns: tuple[str, ...]

    def matches(self, record: RequestRecord, now: float) -> bool:
        return all(_NAMES[column](record) is None for column in self.columns)

    def condition(self, now: float) -> Condition:
        return Condition(f"({' AND '.join(f'{column} IS NULL' for column in self.columns)})", ())


@dataclass(frozen=True, slots=True)
class _Path:
    value: str
    whole: bool

    def matches(self, record: RequestRecord, now: float) -> bool:
        return record.path == self.value if self.whole else self.value in record.path

    def condition(self, now: float) -> Condition:
        return Condition("path = ?" if self.whole else "instr(path, ?) > 0", (self.value,))


@dataclass(frozen=True, slots=True)
class _Id:
    """The beginning of an id, or all of it."""

    value: str
    whole: bool

    def matches(self, record: RequestRecord, now: float) -> bool:
        return record.id == self.value if self.whole else record.id.startswith(self.value)

    def condition(self, now: float) -> Condition:
        if self.whole:
            return _on_index("id = ?", self.value)
        # UTF-8 keeps the order of code points, and this is the last one.
        return _on_index("(id >= ? AND id < ?)", self.value, self.value + "\U0010ffff")


def _anywhere(value: str) -> tuple[_Test, ...]:
    """What a word without a field asks."""
    return _Name(tuple(_NAMES), _lower(value), whole=False), _Id(value, whole=False), _Path(value, whole=False)


@dataclass(frozen=True, slots=True)
class _Number:
    column: str
    of: Callable[[RequestRecord], int | None]
    operator: Operator
    value: int

    def matches(self, record: RequestRecord, now: float) -> bool:
        found = self.of(record)
        return found is not None and _COMPARE[self.operator](found, self.value)

    def condition(self, now: float) -> Condition:
        operator = "=" if self.operator == ":" else self.operator
        sql = f"{self.column} {operator} ?"
        return _on_index(sql, self.value) if self.column in _INDEXED_NUMBERS else Condition(sql, (self.value,))


@dataclass(frozen=True, slots=True)
class _Missing:
    """A figure that is not known."""

    column: str
    of: Callable[[RequestRecord], int | None]

    def matches(self, record: RequestRecord, now: float) -> bool:
        return self.of(record) is None

    def condition(self, now: float) -> Condition:
        return Condition(f"{self.column} IS NULL", ())


@dataclass(frozen=True, slots=True)
class _Flag:
    column: str
    of: Callable[[RequestRecord], int | None]
    value: int

    def matches(self, record: RequestRecord, now: float) -> bool:
        return self.of(record) == self.value

    def condition(self, now: float) -> Condition:
        return Condition(f"{self.column} = ?", (self.value,))


@dataclass(frozen=True, slots=True)
class _Moment:
    """seconds: since 1970, or before now."""

    column: Literal["since", "until"]
    seconds: float
    ago: bool

    def _stored(self, now: float) -> int:
        return micros(now - self.seconds if self.ago else self.seconds)

    def matches(self, record: RequestRecord, now: float) -> bool:
        return (micros(record.time) >= self._stored(now)) is (self.column == "since")

    def condition(self, now: float) -> Condition:
        return _on_index(f"time {'>=' if self.column == 'since' else '<'} ?", self._stored(now))


@dataclass(frozen=True, slots=True)
class _Address:
    network: IpNetwork

    def matches(self, record: RequestRecord, now: float) -> bool:
        first, last = packed_range(self.network)
        return first <= packed_address(record.address) <= last

    def condition(self, now: float) -> Condition:
        return _on_index("address BETWEEN ? AND ?", *packed_range(self.network))


_NAMES: Final[Mapping[str, Callable[[RequestRecord], str | None]]] = {
    "model": lambda record: record.model,
    "alias": lambda record: record.alias,
    "principal": lambda record: record.principal,
    "key_id": lambda record: record.key_id,
    "outcome": lambda record: record.outcome,
    "error": lambda record: record.error_code,
    "finish": lambda record: record.finish_reason,
}
# Each index costs every record that is written; the others are figures that are rarely asked for alone.
_INDEXED_NUMBERS: Final = ("status", "total", "ttft")
_COMPARE: Final[Mapping[Operator, Callable[[int, int], bool]]] = {
    ":": int.__eq__,
    "=": int.__eq__,
    ">": int.__gt__,
    ">=": int.__ge__,
    "<": int.__lt__,
    "<=": int.__le__,
}


# The fields, and how the values of each are read.


@dataclass(frozen=True, slots=True)
class _Field:
    """expected: for whoever wrote something else."""

    expected: str
    read: Callable[[Operator, str], _Test]
    operators: tuple[str, ...] = (":", "=")


def _text_field(example: str, *columns: str) -> _Field:
    def read(operator: Operator, value: str) -> _Test:
        return _NoName(columns) if value == "-" else _Name(columns, _lower(value), whole=operator == "=")

    return _Field(f"text, as {example}", read)


def _choice_field(column: str, choices: Sequence[str]) -> _Field:
    expected = " or ".join(choices)

    def read(operator: Operator, value: str) -> _Test:
        if value not in (*choices, "-"):
            raise _WrongWord(f"{value!r} is none; expected {expected}")
        return _NoName((column,)) if value == "-" else _Name((column,), value, whole=True)

    return _Field(expected, read)


def _flag_field(column: str, of: Callable[[RequestRecord], int | None]) -> _Field:
    words = {"yes": 1, "true": 1, "no": 0, "false": 0}

    def read(operator: Operator, value: str) -> _Test:
        if value not in words:
            raise _WrongWord("expected yes or no")
        return _Flag(column, of, words[value])

    return _Field("yes or no", read)


def _number_field(
    column: str, of: Callable[[RequestRecord], int | None], example: str, units: Mapping[str, float], scale: int = 1
) -> _Field:
    """scale: of what is stored, over what is written without a unit."""

    def read(operator: Operator, value: str) -> _Test:
        if value == "-" and operator in (":", "="):
            return _Missing(column, of)
        number = _amount(value, units)
        if number is None:
            raise _WrongWord(f"{value!r} is no number; expected {example}")
        return _Number(column, of, operator, round(number * scale))

    return _Field(example, read, (":", "=", ">", ">=", "<", "<="))


def _moment_field(column: Literal["since", "until"]) -> _Field:
    expected = f"so long ago, as {column}:15m, 2h or 3d, or a time, as {column}:2026-11-25T18:00 (UTC)"

    def read(operator: Operator, value: str) -> _Test:
        if (ago := _amount(value, _AGO)) is not None:
            return _Moment(column, ago, ago=True)
        try:
            moment = datetime.fromisoformat(value)
            return _Moment(column, (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp(), ago=False)
        except (ValueError, OverflowError):
            raise _WrongWord(f"{value!r} is no time; expected {expected}") from None

    return _Field(expected, read)


def _read_address(operator: Operator, value: str) -> _Test:
    network = _network(value)
    if network is None:
        raise _WrongWord(f"{value!r} is no address; expected one, or a network, as ip:10.20.0.0/16")
    return _Address(network)


def _network(text: str) -> IpNetwork | None:
    # A plain number would be an address too.
    if not re.search(r"[.:]", text):
        return None
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _amount(text: str, units: Mapping[str, float]) -> float | None:
    found = _NUMBER.fullmatch(text)
    if found is None or found[2] not in units:
        return None
    amount = float(found[1]) * units[found[2]]
    return amount if amount <= _NUMBER_MAX else None


def _optional_micros(value: float | None) -> int | None:
    return None if value is None else micros(value)


_KEY: Final = _text_field("key:ci-bot", "principal", "key_id")
_FIELDS: Final[Mapping[str, _Field]] = {
    "st": _number_field("status", lambda record: record.status, "a status, as st>=400", {"": 1.0}),
    "model": _text_field("model:qwen", "model", "alias"),
    "key": _KEY,
    "principal": _KEY,
    "ip": _Field("an address or a network, as ip:10.20.0.0/16", _read_address),
    "dur": _number_field(
        "total", lambda record: micros(record.total_seconds), "seconds, as dur>10", _SECONDS, 1_000_000
    ),
    "ttft": _number_field(
        "ttft",
        lambda record: _optional_micros(record.ttft_seconds),
        "seconds, as ttft>2 or ttft>500ms",
        _SECONDS,
        1_000_000,
    ),
    "queue": _number_field(
        "queue",
        lambda record: _optional_micros(record.queue_seconds),
        "seconds, as queue>1",
        _SECONDS,
        1_000_000,
    ),
    "in": _number_field("prompt", lambda record: record.prompt_tokens, "tokens, as in>30k", _COUNTS),
    "out": _number_field("completion", lambda record: record.completion_tokens, "tokens, as out>1000", _COUNTS),
    "path": _Field(
        "text, as path:/v1/embeddings, in upper and lower case as it is",
        lambda operator, value: _Path(value, operator == "="),
    ),
    "outcome": _choice_field("outcome", get_args(Outcome)),
    "error": _text_field("error:queue_full", "error"),
    "id": _Field("the beginning of a request's id, as id:8f2a", lambda operator, value: _Id(value, operator == "=")),
    "finish": _choice_field("finish", get_args(FinishReason)),
    "stream": _flag_field("stream", lambda record: record.stream),
    "mirrored": _flag_field("mirrored", lambda record: record.mirrored),
    "since": _moment_field("since"),
    "until": _moment_field("until"),
}
