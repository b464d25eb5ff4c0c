"""What clients send as the form of an answer reaches the worker, and official clients can read what comes of it."""

from __future__ import annotations

import json

import openai
import pydantic

from tests.api.conftest import Api


async def test_the_constraint_travels_in_the_add(api: Api) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}, "strict": True}}
    answer = await api.chat("tell", response_format=form)
    told = json.loads((await answer.json())["choices"][0]["message"]["content"])
    assert told["constraint"] == {
        "kind": "json_schema",
        "text": '{"type": "object"}',
        "param": "response_format.json_schema.schema",
        "thinks": None,
    }


async def test_contradictions_are_refused(api: Api) -> None:
    answer = await api.chat("tell", regex="a", response_format={"type": "json_object"})
    assert (answer.status, (await answer.json())["error"]["param"]) == (400, "regex")


class Person(pydantic.BaseModel):
    name: str
    age: int


async def test_the_official_client_parses(api: Api) -> None:
    async with openai.AsyncOpenAI(base_url=f"{api.url}/v1", api_key="good", max_retries=0) as client:
        answer = await client.chat.completions.parse(
            model="demo",
            messages=[{"role": "user", "content": 'say:{"name":"Ann","age":4}'}],
            response_format=Person,
        )
    assert answer.choices[0].message.parsed == Person(name="Ann", age=4)
