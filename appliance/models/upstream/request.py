"""A request on its way to another server: what we must know of it, and the body that goes there. Pure."""

from __future__ import annotations

import base64
import hashlib
from typing import Final, Literal

import msgspec
from msgspec import Raw, Struct

from appliance.models.probing import PROBE, PROBE_PROMPT

Endpoint = Literal["chat/completions", "completions", "embeddings", "rerank"]
# Ours, and settled here: a server may refuse what it does not know, or take it for something else.
_OURS: Final = ("priority", "deadline_seconds", "timeout")


class UpstreamRequest(Struct, frozen=True, kw_only=True):
    """One request for an upstream model; never changed afterwards.

    id: the X-Request-Id. model: the id of its UpstreamSpec. served_as: what the model is called there. body: as it goes
    out. n: choices. include_usage: the client asked for the usage chunk. prompt_tokens: our estimate, for as long as
    the server has not counted. seconds_max: from now; then it ends with what it has. traceparent: the header,
    where it is part of a trace.
    """

    id: str
    model: str
    served_as: str
    principal: str
    endpoint: Endpoint
    body: bytes
    n: int
    stream: bool
    include_usage: bool
    prompt_tokens: int
    seconds_max: float
    traceparent: str | None = None


def upstream_body(fields: dict[str, Raw], *, model: str, stream: bool, cache_salt: str | None) -> bytes:
    """The client's fields byte for byte, but for the model's name, ours, and that the usage is always asked for.

    cache_salt: whose prompts may be shared; takes the place of the client's own.
    """
    body = {name: value for name, value in fields.items() if name not in _OURS}
    body["model"] = Raw(msgspec.json.encode(model))
    if stream:
        asked = msgspec.json.decode(fields.get("stream_options", Raw(b"null")), type=dict[str, Raw] | None) or {}
        body["stream_options"] = Raw(msgspec.json.encode({**asked, "include_usage": True}))
    if cache_salt is not None:
        body["cache_salt"] = Raw(msgspec.json.encode(cache_salt))
    return msgspec.json.encode(body)


def probe_request(model: str, their_name: str, endpoint: Endpoint, seconds_max: float) -> UpstreamRequest:
    """Asks for the least that the endpoint gives, on behalf of nobody."""
    # Whoever completes, chats too.
    probed: Endpoint = "chat/completions" if endpoint == "completions" else endpoint
    body = {"model": their_name, **_least(probed)}
    return UpstreamRequest(
        id="probe",
        model=model,
        served_as=their_name,
        principal=PROBE,
        endpoint=probed,
        body=msgspec.json.encode(body),
        n=1,
        stream=False,
        include_usage=False,
        prompt_tokens=1,
        seconds_max=seconds_max,
    )


def _least(endpoint: Endpoint) -> dict[str, object]:
    match endpoint:
        case "embeddings":
            return {"input": PROBE_PROMPT}
        case "rerank":
            return {"query": PROBE_PROMPT, "documents": [PROBE_PROMPT]}
        case _:
            return {"messages": [{"role": "user", "content": PROBE_PROMPT}], "max_tokens": 1}


def cache_salt(cache_domain: str) -> str:
    """The salt of a cache domain: the same on every appliance, so that several in front of one server agree."""
    digest = hashlib.sha256(cache_domain.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
