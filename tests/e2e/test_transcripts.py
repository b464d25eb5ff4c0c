"""A stream says what the same request has as one body, by the real engine over mutual TLS."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from tests.api.transcripts import ASSEMBLE, asked, events_of, streamed, without_chance
from tests.e2e.appliance_process import Appliance
from tests.models.vocabulary import word

pytestmark = pytest.mark.slow

CHAT, TEXT, MESSAGES, RESPONSES = ASSEMBLE
SCHEMA: Any = {"type": "object", "properties": {"a": {"enum": ["x", "yz"]}}, "required": ["a"]}
FUNCTION: Any = {"name": "f", "parameters": SCHEMA}
CASES: list[tuple[str, str, dict[str, Any]]] = [
    (CHAT, word(7), {"max_tokens": 9}),
    (CHAT, "abc", {"stop": "u"}),
    (CHAT, "A", {"n": 3, "max_tokens": 40}),
    (CHAT, "abc", {"logprobs": True, "top_logprobs": 3, "max_tokens": 5}),
    (CHAT, "a", {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}, "max_tokens": 60}),
    (CHAT, "a", {"tools": [{"type": "function", "function": FUNCTION}], "tool_choice": "required", "max_tokens": 90}),
    (TEXT, word(7), {"max_tokens": 9}),
    (TEXT, "A", {"max_tokens": 40, "logprobs": 2}),
    (TEXT, "abc", {"stop": ["u"], "echo": True}),
    (TEXT, "a", {"regex": "[0-9]{3}-[0-9]{3}"}),
    (MESSAGES, word(7), {"max_tokens": 9}),
    (MESSAGES, "abc", {"stop_sequences": ["u"]}),
    (MESSAGES, "a", {"tools": [{"name": "f", "input_schema": SCHEMA}], "tool_choice": {"type": "any"}}),
    (RESPONSES, word(7), {"max_output_tokens": 9}),
    (RESPONSES, "abc", {}),
    (RESPONSES, "a", {"tools": [{"type": "function", **FUNCTION}], "tool_choice": "required", "max_output_tokens": 90}),
]


async def post(session: aiohttp.ClientSession, path: str, body: dict[str, Any]) -> str:
    async with session.post(path, json=body) as answer:
        text = await answer.text()
        assert answer.status == 200, text
        return without_chance(text)


@pytest.mark.parametrize(("path", "text", "fields"), CASES, ids=lambda value: str(value)[-24:])
async def test_a_stream_says_what_the_whole_says(zoo: Appliance, path: str, text: str, fields: dict[str, Any]) -> None:
    body = asked(path, text, model="recite", **fields)
    async with zoo.session() as session:
        # Once before, so that both find the same of their prompt in the cache.
        await post(session, path, body)
        whole = events_of("data: " + await post(session, path, body))[0]
        pieces = ASSEMBLE[path](events_of(await post(session, path, streamed(path, body))))
    assert pieces == whole
