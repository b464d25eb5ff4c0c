"""What a prompt is to the demo model, over the API, with llama-server's fields and vLLM's."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.e2e.appliance_process import Appliance

pytestmark = pytest.mark.slow
CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is TTFT? 你好"}]


async def ask(appliance: Appliance, path: str, **fields: Any) -> tuple[int, Any]:
    async with appliance.session() as session, session.post(path, json={"model": "demo", **fields}) as answer:
        return answer.status, msgspec.json.decode(await answer.read())


async def told(appliance: Appliance, path: str, **fields: Any) -> Any:
    status, answer = await ask(appliance, path, **fields)
    assert status == 200, answer
    return answer


async def test_a_chat_has_the_tokens_that_its_answer_counts(demo: Appliance) -> None:
    rendered = (await told(demo, "/apply-template", messages=CHAT))["prompt"]
    assert "Be brief." in rendered and rendered.endswith("<|im_start|>assistant\n")
    tokens = await told(demo, "/v1/tokenize", messages=CHAT)
    assert tokens["tokens"] == (await told(demo, "/tokenize", prompt=rendered))["tokens"]
    answer = await told(demo, "/v1/chat/completions", messages=CHAT, max_tokens=1)
    assert tokens["count"] == len(tokens["tokens"]) == answer["usage"]["prompt_tokens"]
    assert tokens["max_model_len"] == 2048


@pytest.mark.parametrize("text", ["Hello, world.", "一二三 🙂", "", "<|im_start|>user"])
async def test_tokens_and_back(demo: Appliance, text: str) -> None:
    tokens = (await told(demo, "/tokenize", content=text))["tokens"]
    back = await told(demo, "/detokenize", tokens=tokens)
    assert back == {"content": text, "prompt": text}


async def test_special_tokens_are_a_matter_of_choice(demo: Appliance) -> None:
    text = "<|im_start|>"
    parsed = (await told(demo, "/tokenize", content=text))["tokens"]
    plain = (await told(demo, "/tokenize", content=text, parse_special=False))["tokens"]
    assert len(parsed) == 1 < len(plain)


async def test_pieces_are_bytes_where_they_are_no_text(demo: Appliance) -> None:
    answer = await told(demo, "/tokenize", content="A🙂", with_pieces=True, return_token_strs=True)
    pieces = [token["piece"] for token in answer["tokens"]]
    raw = b"".join(piece.encode() if isinstance(piece, str) else bytes(piece) for piece in pieces)
    assert raw.decode() == "A🙂"
    assert len(answer["token_strs"]) == answer["count"]


@pytest.mark.parametrize(
    ("path", "fields", "says"),
    [
        ("/tokenize", {}, "send one of content, prompt and messages"),
        ("/tokenize", {"content": "a", "prompt": "b"}, "send one of"),
        ("/tokenize", {"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ("/detokenize", {"tokens": [10**8]}, "this model's tokens are 0 to 4095"),
        ("/detokenize", {"tokens": "a"}, "tokens"),
        ("/apply-template", {"messages": []}, "messages"),
    ],
)
async def test_bad_input_is_told(demo: Appliance, path: str, fields: dict[str, Any], says: str) -> None:
    status, answer = await ask(demo, path, **fields)
    assert status == 400 and says in answer["error"]["message"], answer


async def test_a_prompt_is_as_likely_as_it_was_when_it_was_drawn(demo: Appliance) -> None:
    """As those ask who evaluate models: `echo`, one token or none, log probabilities, prompts of token ids."""
    question = "<|im_start|>user\nWhat is TTFT?<|im_end|>\n<|im_start|>assistant\n"
    prompt = (await told(demo, "/tokenize", prompt=question))["tokens"]
    drawn = await told(demo, "/v1/completions", prompt=prompt, max_tokens=12, temperature=0, logprobs=1)
    answer = drawn["choices"][0]["text"]
    ids = (await told(demo, "/tokenize", prompt=question + answer))["tokens"]
    asked: dict[str, Any] = {"temperature": 0, "logprobs": 1, "seed": 1234, "echo": True}
    both = await told(demo, "/v1/completions", prompt=[ids, prompt], max_tokens=1, **asked)
    scored, alone = both["choices"]
    begins = len(prompt)
    told_of = scored["logprobs"]["token_logprobs"][begins:-1]
    assert told_of == pytest.approx(drawn["choices"][0]["logprobs"]["token_logprobs"][: len(told_of)], abs=0.05)
    for token, top in zip(
        scored["logprobs"]["tokens"][begins:-1], scored["logprobs"]["top_logprobs"][begins:-1], strict=True
    ):
        assert token == max(top, key=top.get), "it was drawn greedily"
    assert len(alone["logprobs"]["tokens"]) == begins + 1
    assert alone["text"].startswith(question), "special tokens are written out"
    text = await told(demo, "/v1/completions", prompt=question, max_tokens=0, **asked)
    assert text["choices"][0]["text"] == question
    assert text["choices"][0]["logprobs"]["token_logprobs"] == pytest.approx(
        alone["logprobs"]["token_logprobs"][:-1], abs=0.05
    )
    assert text["usage"] == {**text["usage"], "prompt_tokens": begins, "completion_tokens": 0}
