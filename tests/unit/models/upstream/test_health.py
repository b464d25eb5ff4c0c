"""appliance.models.upstream.health"""

from __future__ import annotations

import pytest

from appliance.models.upstream.health import Unhealthy, context_of


@pytest.mark.parametrize(
    ("body", "n_ctx"),
    [
        (b'{"object":"list","data":[{"id":"m","max_model_len":4096}]}', 4096),
        (b'{"data":[{"id":"other"},{"id":"m","meta":{"n_ctx_train":2048,"vocab_type":1}}]}', 2048),
        (b'{"data":[{"id":"x","aliases":["m"],"meta":{"n_ctx":8192,"n_ctx_train":9000,"state":"ready"}}]}', 8192),
        (b'{"data":[{"id":"m","meta":null}]}', None),
    ],
)
def test_what_a_request_may_have(body: bytes, n_ctx: int | None) -> None:
    assert context_of(body, "m") == n_ctx


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"data":[{"id":"a"},{"id":"b\\u0007"}]}', "does not serve 'm'; it serves: 'a', 'b\\\\\\\\x07'"),
        (b'{"data":[]}', "it serves: none"),
        (b"<html>", "name another health_path"),
        (b"[]", "name another health_path"),
    ],
)
def test_what_does_not_serve_it(body: bytes, says: str) -> None:
    with pytest.raises(Unhealthy, match=says):
        context_of(body, "m")
