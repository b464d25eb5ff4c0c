"""appliance.safe_text"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.safe_text import safe_lines, safe_text, without_secrets


def test_controls_and_direction_marks_are_shown() -> None:
    assert safe_text("a\nb\x1b[31mc") == "a\\x0ab\\x1b[31mc"
    assert safe_text("a\u202eb\u2028c\ud800") == "a\\u202eb\\u2028c\\ud800"


def test_other_languages_stay_as_they_are() -> None:
    assert safe_text("财务部 Größe") == "财务部 Größe"


@given(st.text(st.characters(), max_size=400))
def test_the_result_is_one_line_of_bounded_length_that_encodes(text: str) -> None:
    safe = safe_text(text)
    safe.encode()
    assert len(safe) <= 256
    assert len(safe.splitlines()) <= 1


def test_whole_answers_keep_their_lines() -> None:
    assert safe_lines("a\n\tb\x1b]0;x\x07" + "c" * 1000) == "a\n\tb\\x1b]0;x\\x07" + "c" * 1000


def test_keys_and_tokens_are_taken_out() -> None:
    kid, secret = "aBcDeFgHiJkL", "S" * 49
    assert without_secrets(f"GET /v1/apl_sk_{kid}_{secret}?a") == f"GET /v1/apl_sk_{kid}_[redacted]?a"
    assert without_secrets(f"apl_adm_{kid}_{secret[:9]}, cut") == f"apl_adm_{kid}_[redacted], cut"
    assert without_secrets(f"key apl_sk_{kid} of demo") == f"key apl_sk_{kid} of demo"
    assert without_secrets("'eyJhbGciOiJF.eyJzdWIiOiJi.c2lnbmF0dXJl'") == "'eyJhbGciOiJF.[redacted]'"


def test_a_long_text_of_tokens_takes_no_long_time() -> None:
    text = "eyJ" * 200_000
    assert without_secrets(text) == text
