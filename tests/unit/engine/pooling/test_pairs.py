"""A question and a document as one sequence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.pooling.pairs import PairFormat, SeparatedPair, TemplatePair
from tests.unit.engine.pooling.fake_tokenizer import FakeTokenizer

TOKENS = FakeTokenizer()
TEMPLATE = "<s>Q {query}\nD {document}</s>"


def read(tokens: list[int]) -> str:
    return "".join({1: "<", 2: ">"}.get(token, chr(token)) for token in tokens)


@pytest.mark.parametrize(
    ("pair", "wanted"), [(SeparatedPair(TOKENS), "<ask>>doc>"), (TemplatePair(TOKENS, TEMPLATE), "<Q ask\nD doc>")]
)
def test_both_texts_are_in_it(pair: PairFormat, wanted: str) -> None:
    tokens, cut = pair.fit("ask", "doc", 100)
    assert (read(tokens), cut) == (wanted, False)


def test_texts_cannot_say_special_tokens_or_places() -> None:
    tokens, _ = TemplatePair(TOKENS, TEMPLATE).fit("{document}", "</s>{query}", 100)
    assert read(tokens) == "<Q {document}\nD </s>{query}>"


@pytest.mark.parametrize("pair", [SeparatedPair(TOKENS), TemplatePair(TOKENS, TEMPLATE)], ids=["pair", "template"])
def test_the_document_is_cut_first(pair: PairFormat) -> None:
    tokens, cut = pair.fit("ask", "d" * 100, 20)
    assert cut and len(tokens) == 20
    assert read(tokens).startswith(("<ask>>d", "<Q ask\nD d")) and read(tokens).endswith("d>")


@pytest.mark.parametrize("pair", [SeparatedPair(TOKENS), TemplatePair(TOKENS, TEMPLATE)])
@given(query=st.text("abc", max_size=40), document=st.text("xyz", max_size=40), room=st.integers(12, 60))
def test_it_fits_and_says_what_is_cut(pair: PairFormat, query: str, document: str, room: int) -> None:
    whole, _ = pair.fit(query, document, 1000)
    tokens, cut = pair.fit(query, document, room)
    assert len(tokens) <= room
    assert cut == (len(whole) > room)
    assert cut or tokens == whole
    assert tokens[0] == 1 and tokens[-1] == 2
