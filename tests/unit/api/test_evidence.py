"""appliance.api.evidence"""

from __future__ import annotations

from msgspec.structs import replace

from appliance.api.evidence import Evidence
from appliance.models.stream import Text
from appliance.telemetry.request_record import AnswerEvidence


def test_gaps_between_the_pieces_of_one_answer_are_told() -> None:
    told: list[tuple[str, int]] = []

    def sent(model: str, seconds: float, tokens: int) -> None:
        assert seconds >= 0
        told.append((model, tokens))

    draft = Evidence(id="r", address="a", method="POST", path="/v1/completions", model="m", tokens_sent=sent)
    piece = Text(choice=0, text="x", tokens=1)
    for one in (piece, replace(piece, tokens=3), replace(piece, tokens=0), piece):
        draft.saw(one)
    # The first one has nothing before it, and a piece without a token is none.
    assert told == [("m", 3), ("m", 1)]
    draft.answer_evidence = AnswerEvidence(n=2)
    draft.saw(piece)
    assert len(told) == 2
