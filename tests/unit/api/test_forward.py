"""appliance.api.forward: what is read of a body that goes on"""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from appliance.api.forward import _chars_of, _prompts_of
from appliance.api.openai_schema import ForwardedRequest


def body(**fields: Any) -> ForwardedRequest:
    return msgspec.json.decode(json.dumps({"model": "m", **fields}), type=ForwardedRequest)


@pytest.mark.parametrize(
    ("fields", "prompts", "chars"),
    [
        ({"prompt": "abcd"}, 1, 4),
        ({"prompt": ["abcd", "ef"]}, 2, 6),
        # Tokens count as four characters each.
        ({"prompt": [1, 2, 3]}, 1, 12),
        ({"prompt": [[1, 2], [3]]}, 2, 12),
        ({"prompt": []}, 1, 0),
        ({"prompt": None}, 1, 0),
        ({}, 1, 0),
        ({"messages": [{"role": "user", "content": "abcd"}, {"role": "assistant", "content": None}]}, 1, 4),
        (
            {"messages": [{"content": [{"type": "text", "text": "ab"}, {"type": "image_url", "image_url": "x" * 99}]}]},
            1,
            2,
        ),
        # The server will say what is wrong with it.
        ({"messages": [{"content": 7}]}, 1, len('[{"content": 7}]')),
        ({"prompt": {"a": 1}}, 1, 0),
    ],
)
def test_prompts_and_their_size(fields: dict[str, Any], prompts: int, chars: int) -> None:
    request = body(**fields)
    found = _prompts_of(request)
    assert len(found) == prompts
    assert _chars_of(request, found) == chars
