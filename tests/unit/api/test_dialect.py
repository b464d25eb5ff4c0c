"""Which words a path is spoken to in, and what of its headers is a key."""

from __future__ import annotations

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from appliance.api.dialect import ANTHROPIC, OPENAI, dialect_of, shown_keys


@pytest.mark.parametrize(
    ("path", "anthropic"),
    [
        ("/v1/messages", True),
        ("/messages", True),
        ("/v1/messages/count_tokens", True),
        ("/v1/messages/batches?x=1", True),
        ("/v1/messagesx", False),
        ("/v1/chat/completions", False),
        ("/v1/models/messages", False),
        ("/x/v1/messages", False),
        ("/", False),
    ],
)
def test_the_path_decides(path: str, anthropic: bool) -> None:
    assert dialect_of(make_mocked_request("POST", path)) is (ANTHROPIC if anthropic else OPENAI)


@pytest.mark.parametrize(
    ("headers", "shown"),
    [
        ([], []),
        ([("x-api-key", "k")], ["Bearer k"]),
        ([("x-api-key", " k ")], ["Bearer k"]),
        ([("x-api-key", "")], []),
        ([("Authorization", "Bearer k"), ("X-Api-Key", "k")], ["Bearer k"]),
        ([("Authorization", "bearer  k "), ("X-Api-Key", "k")], ["bearer  k "]),
        ([("Authorization", "Bearer k"), ("X-Api-Key", "l")], ["Bearer k", "Bearer l"]),
        ([("Authorization", "Basic k"), ("X-Api-Key", "k")], ["Basic k", "Bearer k"]),
        ([("Authorization", ""), ("X-Api-Key", "k")], ["", "Bearer k"]),
        ([("X-Api-Key", "k"), ("X-Api-Key", "k")], ["Bearer k", "Bearer k"]),
        ([("Authorization", "Bearer k")] * 2 + [("X-Api-Key", "k")], ["Bearer k", "Bearer k"]),
    ],
)
def test_a_key_may_come_in_two_headers_but_is_one(headers: list[tuple[str, str]], shown: list[str]) -> None:
    request = make_mocked_request("POST", "/v1/messages", headers=CIMultiDict(headers))
    assert shown_keys(request) == shown
    elsewhere = make_mocked_request("POST", "/v1/completions", headers=CIMultiDict(headers))
    assert shown_keys(elsewhere) == [value for name, value in headers if name == "Authorization"]
