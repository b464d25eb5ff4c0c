"""What `schemathesis` is told of the appliance under test; it loads this module by SCHEMATHESIS_HOOKS.

What the document leaves open is narrowed here to what the appliance has: the names of its models. A client that gives
itself no time gets a 504, as it asked; that is no fault of the server, so every deadline is long here.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, Final

import schemathesis

MODELS: Final = {"embeddings": "vectors", "rerank": "ranks", "reranking": "ranks"}
DEADLINE_SECONDS: Final = 60
# Most choices of one request: a hundred of them take seconds, and show nothing that four do not.
CHOICES_MAX: Final = 4


@schemathesis.hook
def before_load_schema(context: Any, raw_schema: dict[str, Any]) -> None:
    """The models that there are."""
    components = raw_schema["components"]["schemas"]
    for path, operation in _operations(raw_schema):
        if "requestBody" in operation:
            media = operation["requestBody"]["content"]["application/json"]
            model = MODELS.get(path.rpartition("/")[2], "chat")
            media["example"]["model"] = model
            components[media["schema"]["$ref"].rpartition("/")[2]]["properties"]["model"] = {"enum": [model]}


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method != "servers":
                yield path, operation


_turn: Final = itertools.count()


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Of what is valid: enough time, few choices, every other answer streamed; a response has an input and is kept."""
    body = case.body
    if not isinstance(body, dict):
        return
    for name, most in (("n", CHOICES_MAX), ("best_of", CHOICES_MAX)):
        if _is_number(body.get(name)) and most < body[name] <= 128:
            body[name] = most
    for name in ("deadline_seconds", "timeout"):
        if _is_number(body.get(name)) and 0 < body[name] < DEADLINE_SECONDS:
            body[name] = DEADLINE_SECONDS
    if case.path in ("/chat/completions", "/completions", "/messages", "/responses") and body.get("stream") is None:
        body["stream"] = next(_turn) % 2 == 0
    if case.path == "/responses":
        for name, value in (("store", True), ("input", "Hello")):
            if body.get(name) is None:
                body[name] = value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
