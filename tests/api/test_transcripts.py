"""A stream says what the same request has as one body, for every endpoint; and some streams byte for byte.

The files in tests/golden are those bytes: a change of framing shows in their diff. UPDATE_GOLDEN=1 writes them anew.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio

from tests.api.conftest import Api, running_api
from tests.api.transcripts import ASSEMBLE, asked, events_of, streamed, without_chance

pytestmark = pytest.mark.asyncio(loop_scope="module")

GOLDEN = Path(__file__).parents[1] / "golden"
CHAT, TEXT, MESSAGES, RESPONSES = ASSEMBLE
CALLS = (
    "<think>\nWhich city?\n</think>\n\nLet me look.\n"
    '<tool_call>\n{"name": "weather", "arguments": {"city": "Köln", "days": [1, 2]}}\n</tool_call>\n'
    '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
)


def spell(text: str, answer: str = "hermes,think") -> str:
    return f"read:{answer} spell:{quote(text, safe='')}"


CALLS_SCRIPT = spell(CALLS)
# In one piece: an answer that is cut has as many tokens as had come.
WRITE_CALLS = CALLS_SCRIPT.replace("spell:", "write:")
PLAIN = "started say:Hel say:lo, say:_wörld say:_中"
SCHEMA: Any = {"type": "object", "properties": {"a": {"type": "integer"}}}
PARAMETERS: Any = {"type": "object", "properties": {"city": {"type": "string"}}}
FUNCTIONS: Any = [{"name": "weather", "parameters": PARAMETERS}, {"name": "now", "parameters": {}}]
TOOLS = {"tools": [{"type": "function", "function": function} for function in FUNCTIONS]}
FLAT_TOOLS = {"tools": [{"type": "function", **function} for function in FUNCTIONS]}
ANTHROPIC_TOOLS = {"tools": [{"name": one["name"], "input_schema": one["parameters"]} for one in FUNCTIONS]}
JSON_FORMAT = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}
JSON = "read:none,none spell:" + quote('{"a": 7}', safe="")
# Ends with `length`.
PAST = "started say:part late"

CASES: list[tuple[str, str, str, dict[str, Any]]] = [
    ("plain", CHAT, PLAIN, {}),
    ("n", CHAT, "started 8?say:eight say:x 9?say:nine", {"n": 3, "seed": 8}),
    ("stop", CHAT, "started say:ab stop:END", {"stop": "END"}),
    ("length", CHAT, PAST, {}),
    ("logprobs", CHAT, "started say:a say:b", {"logprobs": True, "top_logprobs": 2}),
    ("thought", CHAT, spell("<think>why</think>because"), {}),
    ("thought begun", CHAT, spell("why</think>because", "hermes,think,thinking"), {}),
    ("calls", CHAT, CALLS_SCRIPT, TOOLS),
    ("one call", CHAT, WRITE_CALLS, {**TOOLS, "parallel_tool_calls": False}),
    ("function", CHAT, WRITE_CALLS, {"functions": FUNCTIONS}),
    ("no call", CHAT, spell("<tool_call>\n{oops"), TOOLS),
    ("logprobs of calls", CHAT, CALLS_SCRIPT, {**TOOLS, "logprobs": True}),
    ("calls of two", CHAT, CALLS_SCRIPT, {**TOOLS, "n": 2, "seed": 1}),
    ("json", CHAT, JSON, {"response_format": JSON_FORMAT}),
    ("nothing", CHAT, "started", {}),
    ("plain", TEXT, PLAIN, {}),
    ("n", TEXT, "started 8?say:eight say:x 9?say:nine", {"n": 3, "seed": 8}),
    ("stop", TEXT, "started say:ab stop:END", {"stop": ["END"]}),
    ("length", TEXT, PAST, {}),
    ("logprobs", TEXT, "started say:a say:é say:b", {"logprobs": 2}),
    ("echo", TEXT, "say:x", {"echo": True}),
    ("json", TEXT, JSON, {"json_schema": SCHEMA}),
    ("prompts", TEXT, "", {"prompt": ["say:a say:b", "say:c"], "n": 2, "seed": 1}),
    ("nothing", TEXT, "started", {}),
    ("plain", MESSAGES, PLAIN, {}),
    ("stop", MESSAGES, "started say:ab stop:END", {"stop_sequences": ["END"]}),
    ("length", MESSAGES, PAST, {}),
    ("thought", MESSAGES, spell("<think>why</think>because"), {"thinking": {"type": "enabled", "budget_tokens": 9}}),
    ("thought left out", MESSAGES, spell("<think>why</think>because"), {}),
    ("calls", MESSAGES, CALLS_SCRIPT, ANTHROPIC_TOOLS),
    ("no call", MESSAGES, spell("<tool_call>\n{oops"), ANTHROPIC_TOOLS),
    ("nothing", MESSAGES, "started", {}),
    ("plain", RESPONSES, PLAIN, {}),
    ("length", RESPONSES, PAST, {}),
    ("logprobs", RESPONSES, "started say:a say:b", {"top_logprobs": 2}),
    ("thought", RESPONSES, spell("<think>why</think>because"), {}),
    ("calls", RESPONSES, CALLS_SCRIPT, FLAT_TOOLS),
    ("json", RESPONSES, JSON, {"text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}}}),
    ("nothing", RESPONSES, "started", {}),
]
# In one piece each: pieces that wait for their reader merge.
WRITTEN: list[tuple[str, str, str, dict[str, Any]]] = [
    ("calls", CHAT, WRITE_CALLS, TOOLS),
    ("calls", MESSAGES, WRITE_CALLS, ANTHROPIC_TOOLS | {"thinking": {"type": "enabled"}}),
    ("calls", RESPONSES, WRITE_CALLS, FLAT_TOOLS),
    ("logprobs", TEXT, "started write:a%C3%A9", {"logprobs": 2}),
    ("failure", CHAT, "started say:half sleep:0.2 fail:internal_error", {}),
    ("failure", MESSAGES, "started say:half sleep:0.2 fail:internal_error", {}),
    ("failure", RESPONSES, "started say:half sleep:0.2 fail:internal_error", {}),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[Api]:
    async with running_api() as api:
        await api.router.preloaded()
        yield api


async def post(api: Api, path: str, body: dict[str, Any]) -> str:
    async with api.session.post(path, json=body) as answer:
        text = await answer.text()
        assert answer.status == 200, text
        return without_chance(text)


def shown(value: Any) -> str:
    return str(value).removeprefix("/v1/")[:16]


@pytest.mark.parametrize(("name", "path", "script", "fields"), CASES, ids=shown)
async def test_a_stream_says_what_the_whole_says(
    shared: Api, name: str, path: str, script: str, fields: dict[str, Any]
) -> None:
    body = asked(path, script, **fields)
    whole = events_of("data: " + await post(shared, path, body))[0]
    pieces = ASSEMBLE[path](events_of(await post(shared, path, streamed(path, body))))
    assert pieces == whole
    (first, second) = shared.records[-2:]
    assert (first.finish_reason, first.completion_tokens) == (second.finish_reason, second.completion_tokens)


@pytest.mark.parametrize(("name", "path", "script", "fields"), WRITTEN, ids=shown)
async def test_the_bytes_of_a_stream(shared: Api, name: str, path: str, script: str, fields: dict[str, Any]) -> None:
    text = await post(shared, path, streamed(path, asked(path, script, **fields)))
    file = GOLDEN / f"{path.removeprefix('/v1/').replace('/', '_')}-{name}.sse"
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(text)
    assert text == file.read_text()
