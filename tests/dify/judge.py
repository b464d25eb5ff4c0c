"""Runs in the SDK's own Python: one call of JSON a line comes in, one answer of JSON a line goes out.

A call is {"do": name, ...}; the answer is what `_CALLS[name]` returns, or {"error": what Dify's user reads}.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

# First of all: the SDK patches sockets and threads when it is imported.
from tests.dify.plugin import JSON, Embedding, Llm, Rerank, validate_without_thinking  # isort: skip

import gevent
from dify_plugin.entities.model.message import (
    AssistantPromptMessage,
    ImagePromptMessageContent,
    PromptMessage,
    PromptMessageTool,
    SystemPromptMessage,
    TextPromptMessageContent,
    ToolPromptMessage,
    UserPromptMessage,
)

_ROLES = {
    "system": SystemPromptMessage,
    "user": UserPromptMessage,
    "assistant": AssistantPromptMessage,
    "tool": ToolPromptMessage,
}
_KINDS: dict[str, Any] = {"llm": Llm, "embedding": Embedding, "rerank": Rerank}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    # What the SDK prints is not an answer.
    os.dup2(2, 1)
    for line in sys.stdin:
        answers.write(json.dumps(answer(json.loads(line))) + "\n")
        answers.flush()


def answer(call: JSON) -> JSON:
    name = call.pop("do")
    began = time.monotonic()
    try:
        result = _CALLS[name](**call)
    except Exception as error:
        result = {"error": str(error), "type": type(error).__name__}
    return result | {"seconds": time.monotonic() - began}


def _together(of: list[JSON]) -> JSON:
    """Several calls at once, as Dify's threads make them."""
    running = [gevent.spawn(answer, call) for call in of]
    gevent.joinall(running)
    return {"of": [greenlet.value for greenlet in running]}


def _validate(kind: str, model: str, credentials: JSON) -> JSON:
    _KINDS[kind]([]).validate_credentials(model, credentials)
    return {"valid": True}


def _validate_without_thinking(model: str, credentials: JSON) -> JSON:
    validate_without_thinking(model, credentials)
    return {"valid": True}


def _chat(
    model: str,
    credentials: JSON,
    messages: list[JSON],
    parameters: JSON | None = None,
    tools: list[JSON] | None = None,
    stop: list[str] | None = None,
    stream: bool = True,
    take: int | None = None,
) -> JSON:
    """take: how many chunks to read before the stream is abandoned."""
    llm = Llm([])
    began = time.monotonic()
    chunks = llm.invoke(
        model,
        credentials,
        [_message(message) for message in messages],
        parameters or {},
        tools=[PromptMessageTool(**tool) for tool in tools or []] or None,
        stop=stop,
        stream=stream,
        user="5f2c0a0e-0000-4000-8000-000000000000",
    )
    told = _read(islice(chunks, take), began)
    chunks.close()
    return told | {"guesses": llm.guesses}


def _read(chunks: Iterator[Any], began: float) -> JSON:
    texts: list[str] = []
    calls: list[JSON] = []
    told: JSON = {"finish_reason": None, "usage": None, "first_seconds": None}
    for chunk in chunks:
        if chunk.delta.message.content:
            texts.append(chunk.delta.message.content)
            told["first_seconds"] = told["first_seconds"] or time.monotonic() - began
        calls += [call.model_dump() for call in chunk.delta.message.tool_calls]
        told["finish_reason"] = chunk.delta.finish_reason or told["finish_reason"]
        if chunk.delta.usage is not None:
            told["usage"] = [chunk.delta.usage.prompt_tokens, chunk.delta.usage.completion_tokens]
    return told | {"text": "".join(texts), "pieces": len(texts), "tool_calls": calls}


def _message(message: JSON) -> PromptMessage:
    """content: a text, or a list of texts and data URIs."""
    fields = dict(message)
    if isinstance(fields["content"], list):
        fields["content"] = [_content(part) for part in fields["content"]]
    return _ROLES[fields.pop("role")](**fields)


def _content(part: str) -> Any:
    if not part.startswith("data:"):
        return TextPromptMessageContent(data=part)
    head, _, data = part.partition(",")
    return ImagePromptMessageContent(
        format="png", base64_data=data, mime_type=head.removeprefix("data:").partition(";")[0], detail="high"
    )


def _embed(model: str, credentials: JSON, texts: list[str]) -> JSON:
    result = Embedding([]).invoke(model, credentials, texts)
    return {"vectors": result.embeddings, "tokens": result.usage.tokens}


def _rerank(
    model: str,
    credentials: JSON,
    query: str,
    docs: list[str],
    score_threshold: float | None = None,
    top_n: int | None = None,
) -> JSON:
    result = Rerank([]).invoke(model, credentials, query, docs, score_threshold, top_n)
    return {"docs": [[document.index, document.score, document.text] for document in result.docs]}


_CALLS: dict[str, Callable[..., JSON]] = {
    "together": _together,
    "validate": _validate,
    "validate_without_thinking": _validate_without_thinking,
    "chat": _chat,
    "embed": _embed,
    "rerank": _rerank,
}

if __name__ == "__main__":
    main()
