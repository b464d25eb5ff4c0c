"""What of a grammar is refused before it costs anything."""

from __future__ import annotations

import pytest

from appliance.engine.constraint.terminals import check_terminals
from appliance.errors import RequestError


def chain(length: int, link: str = "T{0}: T{1} T{1}") -> str:
    links = (link.format(number, number + 1) for number in range(length))
    return "start: T0\n" + "\n".join(links) + f'\nT{length}: "a"\n'


@pytest.mark.parametrize(
    ("grammar", "message"),
    [
        (chain(17), "T1 comes to more than 100000"),
        (chain(1000), "comes to more than 100000"),
        (chain(6, "T{0}: (T{1} | T{1}){{10}}"), "comes to more than 100000"),
        ("start: T\nT: " + '("a" ' * 3 + "){1000}" * 3, "T comes to"),
        (chain(1024), "more than 1024 rules"),
        ("start: /((a{100}){100}){100}/", "a pattern's repetitions"),
        ('start: "a"{2,100000}', "a repetition of more than"),
        ("start: " + "[" * 9 + 'T{90}{90}{90}\nT: "a"', None),
    ],
    ids=lambda value: str(value)[:24],
)
def test_a_grammar_that_costs_too_much_is_refused(grammar: str, message: str | None) -> None:
    if message is None:
        check_terminals(grammar, "grammar")
        return
    with pytest.raises(RequestError, match=message) as caught:
        check_terminals(grammar, "grammar")
    assert caught.value.param == "grammar"


@pytest.mark.parametrize(
    "grammar",
    [
        chain(10),
        chain(1000, 'T{0}: "a" T{1}'),
        'start: "a"{2,100} b{ 3 } // "x"{99999}\nb: "{20000}"',
        'start: T\nT: T "a"',
        'start: A B\nA: B\nB: A "x"\n',
        "start: T\nT: " + " | ".join(f'"value {number}"' for number in range(3000)),
        '%llguidance {}\n\nstart: ID ")" "]" /[(\\/]/\n     | ID\nID.2: /[a-z]{1,64}/i\n',
        "\x00",
        "",
    ],
    ids=lambda grammar: repr(grammar)[:24],
)
def test_what_clients_really_send_passes(grammar: str) -> None:
    check_terminals(grammar, "grammar")
