"""appliance.api.answer_evidence: what a record keeps of a request, and what it never does."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from appliance.api.answer_evidence import evidence_elsewhere, evidence_of
from appliance.telemetry.request_record import AnswerEvidence
from appliance.types import Constraint, Request, SamplingParams, TextPrompt

SECRET = "Exampleville"


def request(sampling: SamplingParams, stop: tuple[str, ...] = (), max_tokens: int | None = None) -> Request:
    return Request(
        id="r",
        model="m",
        principal="p",
        prompt=TextPrompt(text=SECRET),
        cache_domain="d",
        sampling=sampling,
        stop=stop,
        max_tokens=max_tokens,
    )


def test_only_what_differs_is_kept() -> None:
    assert evidence_of(request(SamplingParams()), 1) == AnswerEvidence()
    asked = evidence_of(request(SamplingParams(temperature=1, seed=7, ignore_eos=True), max_tokens=9), 3)
    assert msgspec.json.encode(asked) == (
        b'{"seed":7,"sampling":{"temperature":1,"ignore_eos":true},"max_tokens":9,"n":3}'
    )


def test_nothing_that_may_be_text_is_kept() -> None:
    sampling = SamplingParams(logit_bias={5: 1.0, 6: 1.0}, dry_sequence_breakers=(SECRET,))
    form = Constraint(kind="regex", text=SECRET)
    asked = evidence_of(msgspec.structs.replace(request(sampling, stop=(SECRET, SECRET)), constraint=form), 1)
    assert SECRET not in str(asked)
    assert asked.withheld == {"stop": 2, "logit_bias": 2, "dry_sequence_breakers": 1, "constraint": len(SECRET)}
    assert asked.sampling == {}


def test_of_a_body_for_another_server_numbers_are_kept() -> None:
    fields = {"temperature": Raw(b"0.5"), "top_k": Raw(b'"Exampleville"'), "seed": Raw(b"7"), "stop": Raw(b'"x"')}
    asked = evidence_elsewhere(fields, 5, 2)
    assert asked == AnswerEvidence(seed=7, sampling={"temperature": 0.5}, max_tokens=5, n=2, withheld={"stop": 1})


@given(st.dictionaries(st.sampled_from(("temperature", "seed", "top_k", "min_p", "stop")), st.binary(max_size=80)))
def test_whatever_a_body_says_the_record_can_be_written(fields: dict[str, bytes]) -> None:
    asked = evidence_elsewhere({name: Raw(value) for name, value in fields.items()}, None, 1)
    assert msgspec.json.decode(msgspec.json.encode(asked), type=AnswerEvidence) == asked
