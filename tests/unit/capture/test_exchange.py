"""What is stored of a request, and that it stays within its bound."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.capture.exchange import CapturedChoice, Exchange, cut_text, parts_of
from tests.unit.capture.making import NOON, exchange, record


def test_the_head_has_everything_but_the_text() -> None:
    head, content = parts_of(exchange(prompt="hello", answer="good day"))
    assert (head.request_id, head.principal, head.model, head.endpoint) == (
        "r1",
        "alice",
        "demo",
        "/v1/chat/completions",
    )
    assert (head.time, head.outcome, head.finish_reason, head.error_code) == (NOON, "ok", "stop", None)
    assert (head.choices, head.answer_bytes, head.bytes_cut) == (1, 8, 0)
    assert head.prompt_bytes == len(content.prompt)
    assert "hello" not in str(head)
    assert "good day" not in str(head)
    assert msgspec.json.decode(content.prompt) == [{"role": "user", "content": "hello"}]
    assert content.choices == (CapturedChoice(text="good day", reason="stop"),)


@pytest.mark.parametrize(
    ("path", "body", "prompt"),
    [
        ("/v1/completions", b'{"prompt": "a  b", "messages": [1]}', '"a  b"'),
        ("/completions", b'{"prompt": [1, 2]}', "[1, 2]"),
        ("/v1/chat/completions", b'{"prompt": "x", "messages": [ {"role" :"user"}]}', '[ {"role" :"user"}]'),
        (
            "/v1/messages",
            b'{"prompt": "x", "messages": [], "system": "s"}',
            '{"prompt": "x", "messages": [], "system": "s"}',
        ),
        ("/v1/embeddings", b'{"input": "x"}', '{"input": "x"}'),
    ],
)
def test_the_prompt_is_as_it_was_received(path: str, body: bytes, prompt: str) -> None:
    taken = Exchange(record=record(path=path), body=body, choices=(), bytes_max=10_000)
    assert parts_of(taken)[1].prompt == prompt


@given(text=st.text("aä€😀", max_size=50), bytes_max=st.integers(0, 60))
def test_a_cut_leaves_whole_characters(text: str, bytes_max: int) -> None:
    kept, missing = cut_text(text.encode(), bytes_max)
    whole = text.encode().decode()
    assert whole.startswith(kept)
    assert len(kept.encode()) + missing == len(whole.encode())
    assert len(kept.encode()) <= bytes_max
    assert missing == 0 or len(kept.encode()) > bytes_max - 4


@given(body=st.binary(max_size=200), bytes_max=st.integers(0, 100))
def test_what_is_no_utf8_counts_as_missing(body: bytes, bytes_max: int) -> None:
    kept, missing = cut_text(body, bytes_max)
    assert len(kept.encode()) + missing == len(body)
    assert len(kept.encode()) <= bytes_max


def test_the_prompt_gets_the_room_that_the_answers_left() -> None:
    head, content = parts_of(exchange(prompt="p" * 2000, answer="a" * 100, bytes_max=1024))
    assert len(content.prompt) == 1024 - 100
    assert head.bytes_cut == content.prompt_bytes_cut == head.prompt_bytes - len(content.prompt)
