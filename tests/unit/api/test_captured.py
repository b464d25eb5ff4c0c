"""What is collected of an answer: in order, per choice, within its bound."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.api.captured import CapturedRequest
from appliance.capture.exchange import Exchange, parts_of
from appliance.models.stream import AnswerEnd, ChoiceEnd, Text
from appliance.types import Timings, Usage
from tests.unit.capture.making import record

BODY = b'{"messages": []}'


class Kept:
    """A capture that remembers."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []

    def bytes_max(self, principal: str) -> int | None:
        return 1024

    def keep(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)


def text(text: str, choice: int = 0) -> Text:
    return Text(choice=choice, text=text, tokens=1)


def test_choices_apart_with_their_ends() -> None:
    kept = Kept()
    captured = CapturedRequest(kept, BODY, 2, 1024)
    timings = Timings(queue_seconds=0, prefill_seconds=0, decode_seconds=0)
    end = AnswerEnd(choice=0, reason="length", usage=Usage(prompt_tokens=1, completion_tokens=1), timings=timings)
    for event in (text("a"), text("b", 1), ChoiceEnd(choice=1, reason="stop"), text("ä"), end):
        captured.saw(event)
    captured.end(record())
    (exchange,) = kept.exchanges
    assert [(choice.text, choice.reason, choice.bytes_cut) for choice in exchange.choices] == [
        ("aä", "length", 0),
        ("b", "stop", 0),
    ]
    assert (exchange.body, exchange.bytes_max) == (BODY, 1024)


def test_an_answer_that_did_not_end_has_no_reason() -> None:
    kept = Kept()
    captured = CapturedRequest(kept, BODY, 1, 1024)
    captured.saw(text("half"))
    captured.end(record(outcome="client_gone"))
    (choice,) = kept.exchanges[0].choices
    assert (choice.text, choice.reason) == ("half", None)


def test_nothing_follows_a_gap() -> None:
    kept = Kept()
    captured = CapturedRequest(kept, BODY, 1, 20)
    for piece in ("12345678", "äää", "x"):
        captured.saw(text(piece))
    captured.end(record())
    (choice,) = kept.exchanges[0].choices
    assert (choice.text, choice.bytes_cut) == ("12345678ä", 5)


@given(
    body_bytes=st.integers(20, 5000),
    pieces=st.lists(st.tuples(st.integers(0, 2), st.text("aä€😀", max_size=200)), max_size=30),
)
def test_prompt_and_answers_stay_within_the_bound(body_bytes: int, pieces: list[tuple[int, str]]) -> None:
    kept = Kept()
    body = b'{"messages": ["%s"]}' % (b"p" * body_bytes)
    captured = CapturedRequest(kept, body, 3, 1024)
    for number, piece in pieces:
        captured.saw(text(piece, number))
    captured.end(record())
    head, content = parts_of(kept.exchanges[0])
    answers = [choice.text for choice in content.choices]
    size = len(content.prompt.encode()) + sum(len(answer.encode()) for answer in answers)
    assert size <= 1024
    assert size + head.bytes_cut == head.prompt_bytes + head.answer_bytes
    for number, choice in enumerate(content.choices):
        whole = "".join(piece for which, piece in pieces if which == number)
        assert whole.startswith(choice.text)
        assert len(whole.encode()) == len(choice.text.encode()) + choice.bytes_cut
