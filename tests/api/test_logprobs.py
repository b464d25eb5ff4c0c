"""Log probabilities through both endpoints, streamed and not."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.api.conftest import Api, sse

SCRIPT = "started say:Hé say:_you"


def drawn(text: str, top: int) -> dict[str, Any]:
    likeliest = [
        {"token": f"top{index}", "logprob": pytest.approx(-0.1 * (index + 1)), "bytes": list(b"top%d" % index)}
        for index in range(top)
    ]
    return {"token": text, "logprob": -0.5, "bytes": list(text.encode()), "top_logprobs": likeliest}


@pytest.mark.parametrize("top", [None, 0, 2, 20])
async def test_chat(api: Api, top: int | None) -> None:
    fields = {"logprobs": True} if top is None else {"logprobs": True, "top_logprobs": top}
    expected = [drawn("Hé", top or 0), drawn(" you", top or 0)]
    body = await (await api.chat(SCRIPT, **fields)).json()
    assert body["choices"][0]["logprobs"] == {"content": expected, "refusal": None}
    chunks: list[Any] = sse(await (await api.chat(SCRIPT, stream=True, **fields)).text())[:-1]
    logprobs = [chunk["choices"][0]["logprobs"] for chunk in chunks]
    assert [entry for item in logprobs if item for entry in item["content"]] == expected
    assert logprobs[0] is logprobs[-1] is None


async def test_completions(api: Api) -> None:
    likeliest = {"top0": pytest.approx(-0.1), "top1": pytest.approx(-0.2)}
    expected = {
        "tokens": ["Hé", " you"],
        "token_logprobs": [-0.5, -0.5],
        "top_logprobs": [{**likeliest, "Hé": -0.5}, {**likeliest, " you": -0.5}],
        "text_offset": [0, 2],
    }
    body = await (await api.completion(SCRIPT, logprobs=2)).json()
    assert body["choices"][0]["logprobs"] == expected
    chunks: list[Any] = sse(await (await api.completion(SCRIPT, logprobs=2, stream=True)).text())[:-1]
    logprobs = [item for chunk in chunks if (item := chunk["choices"][0]["logprobs"])]
    assert {name: [entry for item in logprobs for entry in item[name]] for name in expected} == expected


async def test_each_choice_has_its_own(api: Api) -> None:
    body = await (await api.completion("7?say:a 8?say:bcd say:e", n=2, seed=7, logprobs=0)).json()
    assert [choice["logprobs"]["tokens"] for choice in body["choices"]] == [["a", "e"], ["bcd", "e"]]
    assert [choice["logprobs"]["text_offset"] for choice in body["choices"]] == [[0, 1], [0, 3]]


async def test_who_does_not_ask_gets_none(api: Api) -> None:
    for answer in (await api.chat("say:x", logprobs=False), await api.completion("say:x")):
        assert (await answer.json())["choices"][0]["logprobs"] is None


async def test_an_answer_without_text_has_an_empty_list(api: Api) -> None:
    body = await (await api.chat("started", logprobs=True)).json()
    assert body["choices"][0]["logprobs"]["content"] == []


@pytest.mark.parametrize("processed", [True, False, None])
async def test_raw_unless_asked_otherwise(api: Api, processed: bool | None) -> None:
    body = await (await api.chat("tell", logprobs=True, post_sampling_probs=processed)).json()
    told = msgspec.json.decode(body["choices"][0]["message"]["content"])
    assert told["logprobs"] == {"top": 0, "processed": bool(processed), "prompt_max": 0}


@pytest.mark.parametrize("logprobs", [-1, 21, True, "5"])
async def test_a_wrong_number_is_refused(api: Api, logprobs: object) -> None:
    answer = await api.completion("say:x", logprobs=logprobs)
    assert (answer.status, (await answer.json())["error"]["param"]) == (400, "logprobs")


@pytest.mark.parametrize("script", ["started scored say:Hé say:_you", "started scored"])
async def test_an_echoed_prompt_has_its_own(api: Api, script: str) -> None:
    asked = {"logprobs": 1, "echo": True, "max_tokens": 2 if "say" in script else 0}
    text = "Hé you" if "say" in script else ""
    body = await (await api.completion(script, **asked)).json()
    (choice,) = body["choices"]
    assert choice["text"] == script + text
    told = choice["logprobs"]
    assert told["tokens"] == ["<s>", *script, *(["Hé", " you"] if text else [])]
    assert told["token_logprobs"] == [None, *[-0.25] * len(script), *([-0.5, -0.5] if text else [])]
    assert told["top_logprobs"][:2] == [None, {"top0": -0.1, "s": -0.25}]
    offsets = [0, *range(len(script)), *([len(script), len(script) + 2] if text else [])]
    assert told["text_offset"] == offsets
    chunks: list[Any] = sse(await (await api.completion(script, stream=True, **asked)).text())[:-1]
    choices = [chunk["choices"][0] for chunk in chunks]
    assert "".join(each["text"] for each in choices) == choice["text"]
    logprobs = [item for each in choices if (item := each["logprobs"])]
    assert {name: [entry for item in logprobs for entry in item[name]] for name in told} == told


async def test_a_prompt_of_tokens_is_echoed_as_they_are_written(api: Api) -> None:
    body = {"model": "demo", "prompt": [[1, 2], [3]], "logprobs": 0, "echo": True, "max_tokens": 0}
    answer = await (await api.session.post("/v1/completions", json=body)).json()
    assert [choice["index"] for choice in answer["choices"]] == [0, 1]
    bare = await api.session.post("/v1/completions", json={"model": "demo", "prompt": [1], "echo": True})
    assert (await bare.json())["error"]["param"] == "echo"


async def test_all_choices_together_tell_of_a_bounded_number(api: Api) -> None:
    for fields, most in (
        ({"logprobs": 0}, 2**19),
        ({"logprobs": 1, "n": 2}, 2**17),
        ({"logprobs": 20, "n": 1}, 24966),
    ):
        body = await (await api.completion("tell", echo=True, **fields)).json()
        told = msgspec.json.decode(body["choices"][0]["text"])
        assert told["logprobs"]["prompt_max"] == most
    told = msgspec.json.decode((await (await api.completion("tell", logprobs=1)).json())["choices"][0]["text"])
    assert told["logprobs"]["prompt_max"] == 0
