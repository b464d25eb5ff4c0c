"""appliance.models.upstream.refusal"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import ErrorCode
from appliance.models.upstream.refusal import refusal


@pytest.mark.parametrize(
    ("status", "body", "code", "message"),
    [
        (400, b'{"error": {"message": "m", "code": "context_length_exceeded"}}', "context_length_exceeded", "m"),
        (400, b'{"object": "error", "message": "m", "code": 400}', "invalid_request", "m"),
        (422, b'{"error": "m", "error_type": "validation"}', "invalid_request", "m"),
        (422, b'{"detail": "m"}', "invalid_request", "m"),
        (422, b'{"detail": [{"loc": ["body"]}]}', "invalid_request", "the server that serves this model refuses the"),
        (400, b"<html>", "invalid_request", "the server that serves this model refuses the request"),
        (413, b"", "body_too_large", "the server that serves this model refuses the request"),
        (501, b'{"error": {"message": "m"}}', "unsupported_parameter", "m"),
        # Their codes of other statuses are about other things.
        (400, b'{"error": {"message": "m", "code": "invalid_api_key"}}', "invalid_request", "m"),
        (400, b'{"error": {"message": "m", "code": "internal_error"}}', "invalid_request", "m"),
        (401, b'{"error": {"message": "secret host"}}', "model_unavailable", "model 'x' cannot be served"),
        (429, b"", "queue_full", "the servers of model 'x' have no room now"),
        (503, b"", "queue_full", "the servers of model 'x' have no room now"),
        (500, b'{"error": {"message": "/home/vllm/secret"}}', "model_unavailable", "model 'x' cannot be served"),
        (302, b"", "model_unavailable", "model 'x' cannot be served"),
        (204, b"", "model_unavailable", "model 'x' cannot be served"),
    ],
)
def test_what_becomes_of_a_refusal(status: int, body: bytes, code: ErrorCode, message: str) -> None:
    error = refusal(status, body, None, "x")
    assert error.code == code
    assert error.message.startswith(message)
    assert error.retry_after == (None if error.status < 500 or status == 501 else 5)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7), ("0", 1), ("999999999999", 600), ("Fri, 31 Dec 1999 23:59:59 GMT", 5), ("-3", 5), ("٣", 5)],
)
def test_when_to_try_again(header: str, seconds: int) -> None:
    assert refusal(503, b"", header, "x").retry_after == seconds


def test_a_key_that_it_repeats_is_not_passed_on() -> None:
    body = b'{"error": "bad key apl_sk_0123456789ab_ABCDEFGHIJKLMNOPQRSTUV"}'
    assert "ABCDEFGH" not in refusal(400, body, None, "x").message


@given(st.integers(201, 599), st.binary(max_size=60))
def test_every_refusal_is_one_of_ours(status: int, body: bytes) -> None:
    assert 400 <= refusal(status, body, None, "x").status < 600
