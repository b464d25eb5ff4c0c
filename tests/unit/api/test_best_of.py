"""appliance.api.shape.best_of"""

from __future__ import annotations

from appliance.api.shape import WholeChoice, best_of
from appliance.types import TokenLogprob


def choice(text: str, *logprobs: float) -> WholeChoice:
    made = WholeChoice()
    made.text.append(text)
    made.logprobs += [TokenLogprob(token=0, piece=b"", logprob=logprob) for logprob in logprobs]
    return made


def texts(choices: list[WholeChoice]) -> str:
    return "".join(one.text[0] for one in choices)


def test_the_likeliest_on_average_come_first_for_each_prompt() -> None:
    choices = [
        choice("a", -1, -1),
        choice("b", -0.5),
        choice("c", -0.1, -5),
        choice("d", -2),
        choice("e"),
        choice("f", -1),
    ]
    assert texts(best_of(choices, 1, 3)) == "be"
    assert texts(best_of(choices, 2, 3)) == "baef"
    assert texts(best_of(choices, 3, 3)) == "abcdef", "all of them stay as they are"
