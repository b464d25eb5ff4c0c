"""A blocking answer as it grows."""

from __future__ import annotations

import pytest

from appliance.api.shape import LOGPROBS_MAX, WholeAnswer
from appliance.errors import RequestError
from appliance.models.stream import ChoiceEnd, Text
from appliance.types import TokenLogprob


def test_each_choice_grows_by_itself() -> None:
    answer = WholeAnswer(2)
    for choice, text in ((0, "a"), (1, "x"), (0, "b")):
        answer.add(Text(choice=choice, text=text, tokens=1))
    answer.add(ChoiceEnd(choice=1, reason="length"))
    assert [("".join(choice.text), choice.reason) for choice in answer.choices] == [("ab", None), ("x", "length")]


def test_log_probabilities_are_bounded() -> None:
    token = TokenLogprob(token=1, piece=b"x", logprob=-1.0, top=tuple((index, b"x", -1.0) for index in range(15)))
    answer = WholeAnswer(1)
    answer.add(Text(choice=0, text="x", tokens=1, logprobs=(token,) * (LOGPROBS_MAX // 16)))
    with pytest.raises(RequestError, match="ask for fewer"):
        answer.add(Text(choice=0, text="x", tokens=1, logprobs=(token,)))
