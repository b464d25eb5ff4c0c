"""Requests that must be of some form, and others beside them, outlive a crash of the worker that had not begun them."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.e2e.appliance_process import running_appliance

pytestmark = pytest.mark.slow

SCHEMA: Any = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"enum": [1, 22, 333]}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": SCHEMA}}
REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/completions", {"prompt": "abc", "max_tokens": 400, "response_format": FORMAT}),
    ("/v1/completions", {"prompt": "abc", "max_tokens": 12}),
    ("/v1/completions", {"prompt": "abd", "max_tokens": 400, "regex": "[a-c]{3}/[0-9]{2}"}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}], "max_tokens": 12}),
    (
        "/v1/chat/completions",
        {
            "messages": [{"role": "user", "content": "a"}],
            "max_tokens": 400,
            "tools": [TOOL],
            "tool_choice": "required",
            "parallel_tool_calls": False,
            "reasoning_budget": 0,
        },
    ),
]


async def ask(session: aiohttp.ClientSession, path: str, fields: dict[str, Any]) -> Any:
    async with session.post(path, json={"model": "random", **fields}) as answer:
        body = await answer.json()
        assert answer.status == 200, body
        (choice,) = body["choices"]
        return choice


async def test_they_are_answered_as_if_nothing_had_happened(tmp_path: Path, random_gguf: Path) -> None:
    models = tmp_path / "models.yaml"
    settings = "preload: true, sampling: {temperature: 0}"
    models.write_text(f"models:\n  - {{id: random, path: {random_gguf}, {settings}}}\n")
    with running_appliance(tmp_path / "run", "--models", models) as appliance:
        async with appliance.session() as session:
            (worker,) = appliance.workers()
            worker.send_signal(signal.SIGSTOP)
            async with asyncio.TaskGroup() as group:
                asked = [group.create_task(ask(session, path, fields)) for path, fields in REQUESTS]
                await asyncio.sleep(0.5)
                worker.send_signal(signal.SIGKILL)
    # Random weights say what they like wherever they may.
    of_schema, _, of_regex, _, forced = (task.result() for task in asked)
    assert [one["finish_reason"] for one in (of_schema, of_regex, forced)] == ["stop", "stop", "tool_calls"]
    check_person(of_schema["text"])
    assert re.fullmatch(r"[a-c]{3}/[0-9]{2}", of_regex["text"])
    (call,) = forced["message"]["tool_calls"]
    check_person(call["function"]["arguments"])


def check_person(text: str) -> None:
    person = json.loads(text)
    assert person.keys() == {"name", "age"}
    assert person["age"] in (1, 22, 333)
