"""What a stream says, put together to what the same request has as one body: for every endpoint that streams."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Final

Body = dict[str, Any]
# Ids are random but for their first letters; times are now.
_ID: Final = re.compile(r'(\bchatcmpl-|\bcmpl-|\b(?:msg|resp|call|toolu|rs|fc)_|"request_id":")[0-9a-zA-Z]{24,}')
_TIME: Final = re.compile(r'"(created|created_at|completed_at)":\s*\d+')
_FINGERPRINT: Final = re.compile(r"fp_[0-9a-f]{12}")


def without_chance(text: str) -> str:
    """With each id cut to its first letters, and each time to 0."""
    return _FINGERPRINT.sub("fp_", _TIME.sub(r'"\1":0', _ID.sub(r"\1", text)))


def events_of(text: str) -> list[Body]:
    """The objects of a stream, in their order; fails for a stream that is not whole."""
    blocks = [block for block in text.split("\n\n") if block and not block.startswith(":")]
    events = []
    for block in blocks:
        *names, data = block.split("\n")
        assert data.startswith("data: ") and len(names) <= 1, block
        if data == "data: [DONE]":
            assert block is blocks[-1]
            break
        event = json.loads(data.removeprefix("data: "))
        if names:
            assert names == [f"event: {event['type']}"], block
        events.append(event)
    return events


def chat(events: list[Body]) -> Body:
    return _of_choices(events, "chat.completion.chunk", "chat.completion", _chat_choice)


def completion(events: list[Body]) -> Body:
    return _of_choices(events, "text_completion", "text_completion", _text_choice)


def _of_choices(events: list[Body], chunk: str, whole: str, assemble: Callable[[int, list[Body]], Body]) -> Body:
    shared = {(event["id"], event["model"], event["created"], event["object"]) for event in events}
    assert len(shared) == 1, "all chunks are of one answer"
    assert events[0]["object"] == chunk
    assert [bool(event["choices"]) for event in events] == [True] * (len(events) - 1) + [False], "usage comes last"
    parts = [choice for event in events for choice in event["choices"]]
    indices = sorted({part["index"] for part in parts})
    return {
        **{name: events[-1][name] for name in ("id", "created", "model", "system_fingerprint", "usage")},
        "object": whole,
        "choices": [assemble(index, [part for part in parts if part["index"] == index]) for index in indices],
    }


def _ended(parts: list[Body]) -> str:
    reasons = [part["finish_reason"] for part in parts]
    assert all(reason is None for reason in reasons[:-1]) and reasons[-1] is not None
    return str(reasons[-1])


def _chat_choice(index: int, parts: list[Body]) -> Body:
    deltas = [part["delta"] for part in parts]
    assert deltas[0] == {"role": "assistant", "content": ""}
    calls: list[Body] = []
    function: Body | None = None
    for delta in deltas:
        for call in delta.get("tool_calls") or ():
            if "id" in call:
                assert call["index"] == len(calls)
                calls.append({"id": call["id"], "type": call["type"], "function": dict(call["function"])})
            else:
                calls[call["index"]]["function"]["arguments"] += call["function"]["arguments"]
        if "function_call" in delta:
            function = function or {"arguments": ""}
            function |= {name: value for name, value in delta["function_call"].items() if name == "name"}
            function["arguments"] += delta["function_call"].get("arguments", "")
    content = "".join(delta.get("content") or "" for delta in deltas)
    thought = "".join(delta.get("reasoning_content") or "" for delta in deltas)
    message: Body = {"role": "assistant", "content": content or (None if calls or function else "")}
    message |= {"reasoning_content": thought} if thought else {}
    message |= {"tool_calls": calls} if calls else {}
    message |= {"function_call": function} if function else {}
    logprobs = [each for part in parts if part["logprobs"] for each in part["logprobs"]["content"]]
    unparsed = {name: value for name, value in parts[-1].items() if name == "appliance_unparsed_tool_call"}
    return {
        "index": index,
        "message": message,
        "logprobs": {"content": logprobs, "refusal": None} if logprobs else None,
        "finish_reason": _ended(parts),
        **unparsed,
    }


def _text_choice(index: int, parts: list[Body]) -> Body:
    logprobs: Body | None = None
    for part in parts:
        if part["logprobs"]:
            logprobs = logprobs or {name: [] for name in part["logprobs"]}
            for name, values in part["logprobs"].items():
                logprobs[name] += values
    text = "".join(part["text"] for part in parts)
    return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": _ended(parts)}


def message(events: list[Body]) -> Body:
    start, *middle, delta, stop = (event for event in events if event["type"] != "ping")
    assert (start["type"], delta["type"], stop["type"]) == ("message_start", "message_delta", "message_stop")
    blocks: list[Body] = []
    inputs: dict[int, str] = {}
    for event in middle:
        index = event["index"]
        match event["type"]:
            case "content_block_start":
                assert index == len(blocks), "one block after the other"
                blocks.append(dict(event["content_block"]))
            case "content_block_delta":
                piece = event["delta"]
                match piece["type"]:
                    case "text_delta":
                        blocks[index]["text"] += piece["text"]
                    case "thinking_delta":
                        blocks[index]["thinking"] += piece["thinking"]
                    case "signature_delta":
                        blocks[index]["signature"] = piece["signature"]
                    case "input_json_delta":
                        inputs[index] = inputs.get(index, "") + piece["partial_json"]
    for index, text in inputs.items():
        blocks[index]["input"] = json.loads(text)
    return {**start["message"], "content": blocks, **delta["delta"], "usage": delta["usage"]}


def response(events: list[Body]) -> Body:
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    last: Body = events[-1]["response"]
    texts = [event["delta"] for event in events if event["type"] == "response.output_text.delta"]
    arguments = [event["delta"] for event in events if event["type"] == "response.function_call_arguments.delta"]
    items = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert items == last["output"], "the items one by one are those of the whole"
    said = [part["text"] for item in items if item["type"] == "message" for part in item["content"]]
    assert "".join(texts) == "".join(said)
    assert "".join(arguments) == "".join(item["arguments"] for item in items if item["type"] == "function_call")
    return last


ASSEMBLE: Final[dict[str, Callable[[list[Body]], Body]]] = {
    "/v1/chat/completions": chat,
    "/v1/completions": completion,
    "/v1/messages": message,
    "/v1/responses": response,
}
# Without this a stream of these has no usage.
WITH_USAGE: Final = {"/v1/chat/completions", "/v1/completions"}


def asked(path: str, text: str, /, model: str = "demo", **fields: Any) -> Body:
    """The request that asks `text`, a chat's where the endpoint has chats."""
    turns = [{"role": "user", "content": text}]
    given: dict[str, Body] = {
        "/v1/chat/completions": {"messages": turns},
        "/v1/completions": {"prompt": text},
        "/v1/messages": {"messages": turns, "max_tokens": 64},
        "/v1/responses": {"input": text},
    }
    return {"model": model, **given[path], **fields}


def streamed(path: str, body: Body) -> Body:
    """The same request for a stream."""
    return body | {"stream": True} | ({"stream_options": {"include_usage": True}} if path in WITH_USAGE else {})
