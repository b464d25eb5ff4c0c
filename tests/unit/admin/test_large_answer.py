"""Large answers are the same JSON."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from appliance.admin.large_answer import large_answer

ITEMS = st.lists(st.text() | st.dictionaries(st.text(), st.integers(-(2**53), 2**53) | st.none()))


@given(ITEMS, st.integers(0, 99), st.booleans())
def test_it_is_what_would_be_written_at_once(items: list[object], damaged: int, more: bool) -> None:
    made = large_answer("records", iter(items), damaged=damaged, more=more)
    assert made == msgspec.json.encode({"records": items, "damaged": damaged, "more": more})


def test_it_may_be_empty() -> None:
    assert large_answer("lines", []) == b'{"lines":[]}'
